"""Has the analytics built by a process of its own; see `build_main`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
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


def reply_to(line: bytes) -> bytes:
    """Build what a line of JSON asks for, and return a line without its end."""
    from tautulli_pipeline.analytics.build import build

    try:
        reply = Reply(build(_REQUESTS.validate_json(line)))
    except PipelineError as error:
        reply = Reply(error=error.message, hint=error.hint)
    except Exception as error:
        reply = Reply(error=in_one_line(error))
    return _REPLIES.dump_json(reply)


def build_in_process(request: Request) -> Built:
    """Build the analytics in a process of its own, unless their inputs are the same.

    If this is interrupted, the process ends too, and the old file stays.

    Raises:
        AnalyticsError: the build failed.
    """
    command = [sys.executable, "-m", "tautulli_pipeline.analytics.build_main"]
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        stack.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
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
