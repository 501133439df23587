"""What Ctrl-C, SIGTERM and a closed terminal do to a command that works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tautulli_pipeline.errors import StoppedError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """The first one asks the work to stop, the second one ends it at once.

    Attributes:
        requested: set by the first one.
        interrupts: whether the first one raises `fault` as well, for work that does not
            look at `requested` and leaves nothing half done.
    """

    def __init__(self, fault: StoppedError) -> None:
        self.requested = threading.Event()
        self.interrupts: Callable[[], bool] = lambda: False
        self._fault = fault
        self._raised = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear them while the context is open; none gets lost in a library on the way."""
        # What nohup made deaf to the terminal's end stays so.
        numbers = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        except Exception as error:
            # In the middle of a query, it becomes a fault of the query's library.
            if self._raised and error is not self._fault:
                raise self._fault from error
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def require_none(self) -> None:
        """Raise the fault if there was one."""
        if self.requested.is_set():
            raise self._fault

    def _take(self, _number: int, _frame: object) -> None:
        if self.requested.is_set():
            raise KeyboardInterrupt
        self.requested.set()
        if self.interrupts():
            self._raised = True
            raise self._fault


def signal_itself() -> None:
    """Do to this process what a service manager does to stop it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
