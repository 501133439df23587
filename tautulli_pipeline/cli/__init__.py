"""The command line: `tautulli-pipeline`."""

from __future__ import annotations

import signal
import sys

from tautulli_pipeline.cli.app import application
from tautulli_pipeline.cli.faults import run_reporting_faults
from tautulli_pipeline.memory import keep_memory_bounded


def main() -> None:
    """Run the command line and end the process with its exit code."""
    keep_memory_bounded()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    sys.exit(run_reporting_faults(application, sys.argv[1:]))
