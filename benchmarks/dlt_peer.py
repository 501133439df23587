"""Installs pinned versions of dlt and runs it on the same rows."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

from benchmarks.measurements import Run, RunKind
from benchmarks.processes import run_monitored

_HERE = Path(__file__).parent


def install(folder: Path) -> Path:
    """Create a virtual environment with the packages of `peers.txt`; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(_HERE / "peers.txt")], check=True)
    return python


def run_dlt(python: Path, database: Path, folder: Path, rows: int) -> tuple[Run, str]:
    """Load `database` with dlt; return the run and the version of dlt."""
    folder.mkdir()
    run = run_monitored(
        [str(python), str(_HERE / "dlt_load.py"), str(database), str(folder)], folder
    )
    # dlt may print other lines before the result.
    result = json.loads(run.output.splitlines()[-1])
    if result["rows"] != rows:
        raise RuntimeError(f"dlt loaded {result['rows']} of {rows} rows")
    uses = {"dlt": run.processes["publisher"]}
    return Run(RunKind.DLT, rows, result["seconds"], uses, f"{rows:,} merged"), result["version"]
