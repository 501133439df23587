"""The `tautulli-pipeline` command line."""

from __future__ import annotations

import gc
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
    """Run the command line and exit the process with its exit code."""
    _open_closed_streams()
    received: list[int] = []

    def remember(number: int, _frame: object) -> None:
        received.append(number)

    _handle_stop_signals(remember)
    from tautulli_pipeline.memory import block_pandas, keep_memory_bounded, loading_modules

    block_pandas()
    # Signals raise only after these imports: an exception during an import can get lost.
    with loading_modules():
        from tautulli_pipeline.cli.app import application
        from tautulli_pipeline.cli.faults import run_reporting_faults

    _handle_stop_signals(signal.default_int_handler)
    if received:
        sys.exit(_STOPPED)
    keep_memory_bounded()
    # Also for the files that Dagster, DuckDB and nats-server create.
    os.umask(0o077)
    _exit(run_reporting_faults(application, sys.argv[1:]))


def _open_closed_streams() -> None:
    """Open standard streams that are closed, so that no database gets their file numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Child processes inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


def _exit(exit_code: int) -> NoReturn:
    """Exit the process, skipping Python's shutdown after a stop.

    An abandoned thread may still be running in DuckDB, and Python's shutdown would crash it in
    C++ code. Also, Python treats an interrupt during `exec` as uncaught, and would exit with that
    signal.
    """
    if exit_code == _STOPPED or any(thread.daemon for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # the reader has gone away
                stream.flush()
        os._exit(exit_code)
    gc.freeze()  # otherwise Python looks at every object once more: 0.2 s with Dagster
    sys.exit(exit_code)


def _handle_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Keep ignoring signals that nohup or a background shell job ignores.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
