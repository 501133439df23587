"""Runs this pipeline through its command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measurements import Run, RunKind
from benchmarks.processes import run_monitored


def run_import(kind: RunKind, database: Path, data_dir: Path, rows: int, *options: str) -> Run:
    """Import `database`, which has `rows` plays, with the data directory `data_dir`."""
    command = [sys.executable, "-m", "tautulli_pipeline", "import", str(database), "--json"]
    run = run_monitored([*command, *options], data_dir)
    return Run(kind, rows, run.seconds, run.processes, _outcomes(json.loads(run.output)))


def _outcomes(summary: dict[str, Any]) -> str:
    """Return the counts in the summary of the command as text."""
    duplicates = {f"{k} duplicates": n for k, n in summary["duplicates"].items()}
    others = {name: summary[name] for name in ("imported", "unchanged", "rejected", "errors")}
    counts = {**others, **duplicates}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
