"""This pipeline, through its command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measurements import Run, What
from benchmarks.processes import watched


def run_import(what: What, database: Path, data_dir: Path, rows: int, *options: str) -> Run:
    """Import `database`, which has `rows` plays, into `data_dir`."""
    command = [sys.executable, "-m", "tautulli_pipeline", "import", str(database), "--json"]
    run = watched([*command, *options], data_dir)
    return Run(what, rows, run.seconds, run.processes, _outcomes(json.loads(run.output)))


def _outcomes(summary: dict[str, Any]) -> str:
    """What became of the rows, from the command's own account."""
    duplicates = {f"{k} duplicates": n for k, n in summary["duplicates"].items()}
    others = {name: summary[name] for name in ("imported", "unchanged", "rejected", "errors")}
    counts = {**others, **duplicates}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
