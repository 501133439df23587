"""The importer's side of a consumer process."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import IO, Final, TypeVar

from tautulli_pipeline.data_dir.logs import LOGGER
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.imports.consumer_protocol import (
    Begin,
    Cover,
    Drain,
    Drained,
    Failed,
    Finish,
    Finished,
    Order,
    Progress,
    Ready,
    Reply,
    Waiting,
    parse,
    send,
)
from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.warehouse.arrivals import Arrivals

_ENDS_WITHIN_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_ENDED: Final = Failed(
    1, "the consumer ended unexpectedly", "import again to resume; --debug shows its last words"
)
_KINDS: Final = {kind.exit_code: kind for kind in PipelineError.__subclasses__()}

Awaited = TypeVar("Awaited", Ready, Drained, Finished)


@contextmanager
def spawned_consumer() -> Iterator[subprocess.Popen[bytes]]:
    """A consumer process that loads what it needs and touches nothing until it begins."""
    command = [sys.executable, "-m", "tautulli_pipeline.imports.consumer_main"]
    if LOGGER.isEnabledFor(logging.DEBUG):
        command.append("--debug")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


class ConsumerClient:
    """Sends orders and takes replies; replies that somebody awaits stay in a queue.

    Args:
        process: a consumer that has not begun.
        on_progress: hears, in another thread, what is settled so far.
        on_wait: hears, in another thread, what the consumer waits for.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        on_progress: Callable[[Outcomes], None],
        on_wait: Callable[[str], None],
    ) -> None:
        self._process = process
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._replies: queue.Queue[Order | Reply] = queue.Queue()
        self._failed: Failed | None = None
        self._is_ready = False
        self._listener = threading.Thread(target=self._listen, name="consumer", daemon=True)
        self._listener.start()

    def begin(self, import_id: str, wait_seconds: float) -> None:
        """Have it consume for that import; see `Begin`."""
        self._order(Begin(import_id, wait_seconds))

    def await_ready(self, require_going_on: Callable[[], None]) -> Ready:
        """Wait until the consumer has the warehouse and the stream.

        Args:
            require_going_on: called now and then; raises to end the wait.

        Raises:
            PipelineError: it ended instead; the class says why.
        """
        ready = self._await(Ready, require_going_on)
        self._is_ready = True
        return ready

    def cover(self, partitions: Iterable[str]) -> None:
        """Have it count what is settled of these partitions alone."""
        self._order(Cover(sorted(partitions)))

    def drain(self, last_sequence: int, require_going_on: Callable[[], None]) -> Drained:
        """Wait until everything up to `last_sequence` is consumed and settled.

        Args:
            last_sequence: of the stream.
            require_going_on: called now and then; raises to end the wait.

        Raises:
            PipelineError: the consumer failed.
        """
        self._order(Drain(last_sequence))
        return self._await(Drained, require_going_on)

    def finish(
        self, since: datetime | None, *, within_seconds: float = _ENDS_WITHIN_SECONDS
    ) -> Arrivals | None:
        """End the consumer after its current batch and wait for it.

        Args:
            since: what came into the warehouse since then is wanted.
            within_seconds: after that it is killed.

        Returns:
            What was asked for, where the consumer lived to tell.
        """
        if not self._is_ready:  # it may wait for a lock, and has no batch
            self.kill()
            return None
        self._order(Finish(since))
        self._close(self._process.stdin)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(within_seconds)
        finally:
            self.kill()
        last = [reply for reply in self._replies.queue if isinstance(reply, Finished)]
        return last[0].arrivals if last else None

    @contextmanager
    def ended_after_failure(self) -> Iterator[None]:
        """End the consumer where the context fails: after its current batch, or at once."""
        try:
            yield
        except KeyboardInterrupt:  # a person who does not wait for the batch
            self.kill()
            raise
        except BaseException:
            self.finish(None)
            raise

    def kill(self) -> None:
        """End it at once where it has not ended; what it committed is kept."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._close(self._process.stdin)
        self._close(self._process.stdout)

    @staticmethod
    def _close(pipe: IO[bytes] | None) -> None:
        if pipe is not None:
            with suppress(BrokenPipeError):  # an order that it did not live to read
                pipe.close()

    def require_alive(self) -> None:
        """Raise what ended the consumer, if it has ended.

        Raises:
            PipelineError: its last words.
        """
        if self._failed is not None:
            raise _fault(self._failed)

    def _order(self, order: Order) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            send(stdin, order)

    def _await(self, kind: type[Awaited], require_going_on: Callable[[], None]) -> Awaited:
        while True:
            with suppress(queue.Empty):
                reply = self._replies.get(timeout=_POLL_SECONDS)
                assert isinstance(reply, kind), reply
                return reply
            self.require_alive()
            require_going_on()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        failed = _ENDED
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                break  # it was killed in the middle of a word
            reply = parse(line)
            if isinstance(reply, Progress):
                self._on_progress(reply.outcomes)
            elif isinstance(reply, Waiting):
                self._on_wait(reply.words)
            elif isinstance(reply, Failed):
                failed = reply
            else:
                self._replies.put(reply)
        self._failed = failed


def _fault(failed: Failed) -> PipelineError:
    kind = _KINDS.get(failed.exit_code, PipelineError)
    error = kind(failed.message, hint=failed.hint)
    error.add_note(failed.traceback)
    return error
