"""Has the analytics built by a process of its own; see `build_main`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.analytics.inputs import Request
from tautulli_pipeline.errors import AnalyticsError, PipelineError, in_one_line

_RETRIED: Final = "the next import tries again; until then, the old tables stay"


@dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        rows: number of rows by table; None if nothing had changed and nothing was built.
        seconds: how long it took.
    """

    rows: dict[str, int] | None
    seconds: float


@dataclass(frozen=True)
class Reply:
    """The result of a build, or why it failed."""

    built: Built | None = None
    error: str = ""
    hint: str = ""


_REQUESTS: Final = TypeAdapter(Request)
_REPLIES: Final = TypeAdapter(Reply)


def reply_to(line: bytes, build: Callable[[Request], Built]) -> bytes:
    """Build what a line of JSON asks for, and return a line without its end."""
    try:
        reply = Reply(build(_REQUESTS.validate_json(line)))
    except PipelineError as error:
        reply = Reply(error=error.message, hint=error.hint)
    except Exception as error:
        reply = Reply(error=in_one_line(error))
    return _REPLIES.dump_json(reply)


def build_in_process(request: Request) -> Built:
    """Build the analytics in a process of its own; see `Builder`.

    Raises:
        AnalyticsError: the build failed.
    """
    with open_builder() as builder:
        builder.begin(request)
        return builder.built()


class Builder:
    """A process that builds the analytics once; nothing if the inputs are the same."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def load(self) -> None:
        """Start the process, which loads its modules and waits for a request."""
        if self._process is None:
            command = [sys.executable, "-m", "tautulli_pipeline.analytics.build_main"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def begin(self, request: Request) -> None:
        """Let it build."""
        self.load()
        orders = self._pipes[0]
        with suppress(BrokenPipeError):  # it was killed before it was asked
            orders.write(_REQUESTS.dump_json(request) + b"\n")
            orders.flush()

    def built(self) -> Built:
        """Wait for what it was asked to build.

        Raises:
            AnalyticsError: the build failed.
        """
        line = self._pipes[1].readline()
        try:
            reply = _REPLIES.validate_json(line)
        except ValidationError:  # it was killed, by a lack of memory for example
            reply = Reply(error="its process ended unexpectedly")
        if reply.built is None:
            hint = f"{reply.hint}; {_RETRIED}" if reply.hint else _RETRIED
            raise AnalyticsError(f"cannot update the analytics: {reply.error}", hint=hint)
        return reply.built

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def kill(self) -> None:
        """End it, also in the middle of a build; the old file stays then."""
        if self._process is not None:
            self._process.kill()
            # Closes its pipes, and waits for it. A request that it did not read cannot be flushed.
            with suppress(BrokenPipeError), self._process:
                pass


@contextmanager
def open_builder() -> Iterator[Builder]:
    """Yield a builder, which ends with the context."""
    builder = Builder()
    try:
        yield builder
    finally:
        builder.kill()
