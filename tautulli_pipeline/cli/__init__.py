"""The command line: `tautulli-pipeline`."""

from __future__ import annotations

import sys

from tautulli_pipeline.cli.app import application
from tautulli_pipeline.cli.faults import run_reporting_faults


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_reporting_faults(application, sys.argv[1:]))
