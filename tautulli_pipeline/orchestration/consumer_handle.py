"""The parent's side of a consumer process."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final

import orjson
from pydantic import TypeAdapter

from tautulli_pipeline import errors
from tautulli_pipeline.errors import PipelineError, StoppedError
from tautulli_pipeline.orchestration.consumer_protocol import (
    BEGIN,
    DRAIN,
    DRAINED,
    FAILED,
    FINISH,
    FINISHED,
    PROGRESS,
    READY,
    WAITING,
)
from tautulli_pipeline.warehouse.arrivals import Arrivals

_ENDS_WITHIN_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Drained:
    """The consumer reached the end it was given.

    Attributes:
        totals: the import's fates by column of `import_ledger`.
        unsettled: rows that were published but arrived nowhere, by partition.
    """

    totals: dict[str, int]
    unsettled: dict[str, list[int]]


class ConsumerHandle:
    """Sends orders and takes replies; replies other than progress wait in a queue.

    Attributes:
        ended: what came into the warehouse, or the `PipelineError` that ended it; canceled
            where it had nothing in hand.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_progress: Callable[[dict[str, int]], None],
        on_wait: Callable[[str], None],
    ) -> None:
        self._process = process
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._replies: queue.Queue[dict[str, Any]] = queue.Queue()
        self.ended: Future[Arrivals] = Future()
        self._is_ready = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def begin(self, import_id: str) -> None:
        """Have it consume for that import."""
        self._order(BEGIN, import_id=import_id)

    def await_ready(self, stopping: threading.Event) -> tuple[str, str]:
        """(warehouse id, stream id) once the consumer has both.

        Raises:
            StoppedError: `stopping` was set before that.
            PipelineError: it ended instead; the class says why.
        """
        reply = self._await(READY, stopping)
        self._is_ready = True
        return reply["warehouse_id"], reply["stream_id"]

    def drain(self, last_sequence: int, stopping: threading.Event) -> Drained:
        """Have everything up to `last_sequence` consumed and settled.

        Raises:
            StoppedError: `stopping` was set before that was done.
            PipelineError: the consumer failed.
        """
        self._order(DRAIN, last_sequence=last_sequence)
        reply = self._await(DRAINED, stopping)
        return Drained(reply["totals"], reply["unsettled"])

    def finish(self) -> None:
        """End the consumer after the batch in hand and wait for it."""
        if not self._is_ready:  # it may wait for a lock, and has nothing in hand
            self.ended.cancel()
            self.kill()
            return
        self._order(FINISH)
        self._close(self._process.stdin)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN_SECONDS)
        finally:
            self.kill()

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

    def raise_fault(self) -> None:
        """Raise what it failed with.

        Raises:
            PipelineError: its last words.
        """
        self._await(FAILED)

    @property
    def failed(self) -> bool:
        """Whether it ended before its time."""
        return self._process.poll() is not None

    def _order(self, kind: str, **facts: object) -> None:
        stdin = self._process.stdin
        try:
            if stdin is not None and not stdin.closed:
                stdin.write(orjson.dumps({"kind": kind, **facts}) + b"\n")
                stdin.flush()
        except BrokenPipeError:
            pass  # its last reply says why it is gone

    def _await(self, kind: str, stopping: threading.Event | None = None) -> dict[str, Any]:
        while True:
            with suppress(queue.Empty):
                reply = self._replies.get(timeout=_POLL_SECONDS)
                break
            if stopping is not None and stopping.is_set():
                raise StoppedError("the import was stopped", hint="import again to resume it")
        if reply["kind"] == FAILED:
            raise _fault(reply["fault"])
        assert reply["kind"] == kind, reply
        return reply

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                break  # it was killed in the middle of a word
            reply = orjson.loads(line)
            if reply["kind"] == PROGRESS:
                self._on_progress(reply["totals"])
            elif reply["kind"] == WAITING:
                self._on_wait(reply["words"])
            elif reply["kind"] == FINISHED:
                self.ended.set_result(TypeAdapter(Arrivals).validate_python(reply["arrivals"]))
            else:
                self._take(reply)
        gone = {"exit_code": 1, "message": "the consumer ended unexpectedly", "hint": _GONE_HINT}
        self._take({"kind": FAILED, "fault": gone})

    def _take(self, reply: dict[str, Any]) -> None:
        if reply["kind"] == FAILED:
            with suppress(InvalidStateError):  # it had ended before, or nobody wants to know
                self.ended.set_exception(_fault(reply["fault"]))
        self._replies.put(reply)


_GONE_HINT: Final = "import again to resume; with --debug its last words are shown"


@contextmanager
def spawned_consumer() -> Iterator[subprocess.Popen[bytes]]:
    """A consumer process that loads what it needs and touches nothing until it begins."""
    command = [sys.executable, "-m", "tautulli_pipeline.orchestration.consumer_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _fault(fault: dict[str, Any]) -> PipelineError:
    kinds = {
        kind.exit_code: kind
        for kind in (
            errors.ConfigurationError,
            errors.SourceError,
            errors.StreamError,
            errors.WarehouseError,
        )
    }
    kind = kinds.get(fault["exit_code"], PipelineError)
    error = kind(fault["message"], hint=fault["hint"])
    error.add_note(fault.get("traceback", ""))
    return error
