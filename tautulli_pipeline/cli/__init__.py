"""The command line: `tautulli-pipeline`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, NoReturn

_STOPPED: Final = 130


def main() -> None:
    """Run the command line and end the process with its exit code."""
    early: list[int] = []

    def note(number: int, _frame: object) -> None:
        early.append(number)

    _on_stop_signals(note)
    from tautulli_pipeline.memory import block_pandas, keep_memory_bounded

    block_pandas()
    # Here, as an exception in the middle of an import may get lost in Python itself.
    from tautulli_pipeline.cli.app import application
    from tautulli_pipeline.cli.faults import run_reporting_faults

    _on_stop_signals(signal.default_int_handler)
    if early:
        sys.exit(_STOPPED)
    keep_memory_bounded()
    _end(run_reporting_faults(application, sys.argv[1:]))


def _end(exit_code: int) -> NoReturn:
    """End the process, without Python's own end after a stop.

    A thread that was given up may still be at work in DuckDB, and Python would end it where
    C++ cannot be ended. And an interrupt that came while some module was made by `exec`
    counts as not caught, so that Python would end by that signal.
    """
    if exit_code == _STOPPED or any(thread.daemon for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # its reader is gone
                stream.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _on_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What nohup and a shell's background made deaf stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
