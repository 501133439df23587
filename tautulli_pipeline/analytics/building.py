"""Has the analytics built by a process of its own; see `build_main`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

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
    """Build the analytics in a process of its own; see `started_builder`.

    Raises:
        AnalyticsError: the build failed.
    """
    with started_builder() as build:
        return build(request)


@contextmanager
def started_builder() -> Iterator[Callable[[Request], Built]]:
    """Start a process that loads its modules, and yield the function that has it build.

    It builds nothing if the inputs are the same, and serves one request. It ends with the context,
    also in the middle of a build; the old file stays then.
    """
    command = [sys.executable, "-m", "tautulli_pipeline.analytics.build_main"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield partial(_ask, process)
        finally:
            process.kill()


def _ask(process: subprocess.Popen[bytes], request: Request) -> Built:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it was killed before it was asked
        process.stdin.write(_REQUESTS.dump_json(request) + b"\n")
        process.stdin.flush()
    line = process.stdout.readline()
    try:
        reply = _REPLIES.validate_json(line)
    except ValidationError:  # it was killed, by a lack of memory for example
        reply = Reply(error="its process ended unexpectedly")
    if reply.built is None:
        hint = f"{reply.hint}; {_RETRIED}" if reply.hint else _RETRIED
        raise AnalyticsError(f"cannot update the analytics: {reply.error}", hint=hint)
    return reply.built
