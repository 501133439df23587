"""Asking running work to stop: by a signal, or by a request in the data directory."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.import_lock import Claim, ImportLock

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_EVERY_SECONDS: Final = 0.2


class Stop:
    """Whether work is to stop.

    The first signal asks the work to stop where it next looks, a second one ends it at once.

    Args:
        message: what the fault says that a stop raises.
        hint: what to do after it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self._message = message
        self._hint = hint
        self._requested = threading.Event()
        self._ignored: set[signal.Signals] = set()
        self._hears_signals = False
        self._is_interruptible = False
        self._has_interrupted = False

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._requested.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for a request; whether there is one."""
        return self._requested.wait(seconds)

    def require_none(self) -> None:
        """Return if nobody asked to stop.

        Raises:
            StoppedError: somebody did.
        """
        if self.is_requested:
            raise self._fault()

    def request(self) -> None:
        """Ask to stop, from any thread, as a signal from outside does."""
        if self._hears_signals:
            # A blocking call of the main thread is interrupted by a signal only.
            number = next(number for number in SIGNALS if number not in self._ignored)
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            self._requested.set()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Take the stop signals of this process while the context is open.

        Safe to nest, where a library took the signals in between. In a thread other than the
        main one, only `request` asks to stop.

        Raises:
            StoppedError: a second signal ended the work at once.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What nohup made the process ignore stays ignored.
        self._ignored = self._ignored or {
            number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN
        }
        previous = {number: signal.signal(number, self._handler(number)) for number in SIGNALS}
        was_hearing, self._hears_signals = self._hears_signals, len(self._ignored) < len(SIGNALS)
        try:
            yield
        except KeyboardInterrupt:
            raise self._fault() from None
        finally:
            self._hears_signals = was_hearing
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handler(self, number: signal.Signals) -> signal.Handlers | Callable[[int, object], None]:
        return signal.SIG_IGN if number in self._ignored else self._take

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal end what runs in the main thread within the context, wherever it is.

        For long calls that leave nothing half done: copying and reading a source.

        Raises:
            StoppedError: somebody asked to stop, before or meanwhile.
        """
        self.require_none()
        self._is_interruptible = True
        try:
            yield
        except Exception as error:
            # In the middle of a query, the signal becomes a fault of the query's library.
            if self._has_interrupted and not isinstance(error, StoppedError):
                raise self._fault() from error
            raise
        finally:
            self._is_interruptible = False
        self.require_none()

    @contextmanager
    def shared(self, lock: ImportLock, claim: Claim) -> Iterator[None]:
        """Heed requests of other processes to stop, and show them that this one stops."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_EVERY_SECONDS):
                if self.is_requested:
                    with suppress(OSError):  # it stops also where it cannot show that
                        lock.request_stop(claim)
                    return
                if lock.is_stop_requested(claim):
                    self.request()
                    return

        thread = threading.Thread(target=look, name="stop-requests", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _fault(self) -> StoppedError:
        return StoppedError(self._message, hint=self._hint)

    def _take(self, _number: int, _frame: object) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self._requested.set()
        if self._is_interruptible:
            self._has_interrupted = True
            raise self._fault()
