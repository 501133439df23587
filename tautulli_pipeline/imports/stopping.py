"""Stop running work, by a signal or by a request in the data directory."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, StoppedError
from tautulli_pipeline.imports.import_lock import Claim, ImportLock

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHECK_EVERY_SECONDS: Final = 0.2
# How long to wait for the current batch. After that, the request remains in effect.
STOP_WAIT_SECONDS: Final = 30.0


class Stop:
    """A request to stop running work.

    After the first signal, the work stops at its next check. A second signal ends it immediately.

    Args:
        message: the message of the `StoppedError`.
        hint: the hint of the `StoppedError`.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self._message = message
        self._hint = hint
        # No locks, not even those of `threading.Event`: a signal handler could wait for one that
        # the code it interrupts holds.
        self._is_requested = False
        self._is_urgent = False
        self._is_for_one = False
        self._ignored: set[signal.Signals] = set()
        self._listens = False
        self._is_interruptible = False
        self._has_interrupted = False

    @property
    def is_requested(self) -> bool:
        """Whether a stop was requested."""
        return self._is_requested

    @property
    def is_for_one(self) -> bool:
        """Whether the request was about one server, so that the next one may be imported."""
        return self._is_for_one

    @property
    def is_urgent(self) -> bool:
        """Whether a second signal asked to end immediately.

        Check this in long waits: Python ignores the `KeyboardInterrupt` of the second signal
        if it is raised while an object is being deallocated.
        """
        return self._is_urgent

    def wait(self, seconds: float) -> bool:
        """Wait for a request; return whether there is one."""
        deadline = time.monotonic() + seconds
        while not self._is_requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _CHECK_EVERY_SECONDS))
        return self._is_requested

    def require_none(self) -> None:
        """Raise if a stop was requested.

        Raises:
            StoppedError: a stop was requested.
        """
        if self.is_requested:
            raise self.error()

    def error(self) -> StoppedError:
        """Return the error that a stop raises."""
        return StoppedError(self._message, hint=self._hint)

    def noted(self) -> StoppedError:
        """Return the error for a first signal that a library handled."""
        self._is_requested = True
        return self.error()

    def request(self) -> None:
        """Request a stop from any thread, with the same effect as a signal."""
        if self._listens:
            # Only a signal interrupts a blocking call in the main thread.
            number = next(number for number in SIGNALS if number not in self._ignored)
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            self._is_requested = True

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Handle the stop signals of this process while the context is open.

        Safe to nest, even if a library replaced the handlers in between. Outside the main
        thread, signals are not handled and only `request` stops the work.

        Raises:
            StoppedError: a second signal ended the work immediately.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Signals that nohup made the process ignore stay ignored.
        self._ignored = self._ignored or {
            number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN
        }
        previous = {number: signal.signal(number, self._handler(number)) for number in SIGNALS}
        was_listening, self._listens = self._listens, len(self._ignored) < len(SIGNALS)
        try:
            yield
        except KeyboardInterrupt:
            raise self.error() from None
        finally:
            self._listens = was_listening
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handler(self, number: signal.Signals) -> signal.Handlers | Callable[[int, object], None]:
        return signal.SIG_IGN if number in self._ignored else self._on_signal

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal interrupt the main thread anywhere within the context.

        For long calls that are safe to interrupt, such as copying and reading a source.

        Raises:
            StoppedError: a stop was requested before or within the context.
        """
        self.require_none()
        self._is_interruptible = True
        try:
            yield
        except Exception as error:
            # During a query, the database library turns the signal into its own error.
            if self._has_interrupted and not isinstance(error, StoppedError):
                raise self.error() from error
            raise
        finally:
            self._is_interruptible = False
        self.require_none()

    @contextmanager
    def shared(self, lock: ImportLock, claim: Claim) -> Iterator[None]:
        """Watch for stop requests from other processes, and show them that this one is stopping."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_CHECK_EVERY_SECONDS):
                if self.is_requested:
                    with suppress(OSError):  # it stops even if it cannot show that
                        lock.request_stop(claim)
                    return
                if lock.is_stop_requested(claim):
                    self._is_for_one = lock.is_stop_for_one(claim)
                    self.request()
                    return

        thread = threading.Thread(target=watch, name="stop-requests", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._is_requested:
            self._is_urgent = True
            raise KeyboardInterrupt
        self._is_requested = True
        if self._is_interruptible:
            self._has_interrupted = True
            raise self.error()


def import_stop() -> Stop:
    """Return the `Stop` of an import."""
    return Stop("the import was stopped", hint="import again to resume it")


def stop_running_import(
    lock: ImportLock,
    wait_seconds: float = STOP_WAIT_SECONDS,
    say: Callable[[str], None] = lambda _words: None,
    server: str | None = None,
) -> Claim | None:
    """Ask the running import to stop, and wait for it.

    Args:
        lock: the lock of the data directory.
        wait_seconds: how long to wait.
        say: receives what is waited for.
        server: stop it only if it imports this server, and let it go on with the next one.

    Returns:
        The claim of the import that ran; None if none did.

    Raises:
        ConfigurationError: the data directory is not writable.
    """
    claim = lock.holder()
    if claim is None or not claim.source or server not in {None, claim.server}:
        return None
    try:
        lock.request_stop(claim, only_its_server=bool(server))
    except FileNotFoundError:
        return claim  # the import has ended and its data directory is gone
    except OSError as error:
        raise ConfigurationError(
            f"cannot ask process {claim.process_id} to stop: {error.strerror}",
            hint="make the data directory writable, or press Ctrl-C where the import runs",
        ) from error
    say(f"asked process {claim.process_id} to stop after the current batch")
    deadline = time.monotonic() + wait_seconds
    while lock.holder() == claim and time.monotonic() < deadline:
        time.sleep(_CHECK_EVERY_SECONDS)
    return claim
