"""dlt beside us: installed from exact versions, run on the same rows."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

from benchmarks.measurements import Run, What
from benchmarks.processes import watched

_HERE = Path(__file__).parent


def install(folder: Path) -> Path:
    """A virtual environment with what `peers.txt` names; gives its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(_HERE / "peers.txt")], check=True)
    return python


def run_dlt(python: Path, database: Path, folder: Path, rows: int) -> tuple[Run, str]:
    """Load `database` with dlt; gives its version as well."""
    folder.mkdir()
    run = watched([str(python), str(_HERE / "dlt_load.py"), str(database), str(folder)], folder)
    # dlt may print before the result.
    result = json.loads(run.output.splitlines()[-1])
    if result["rows"] != rows:
        raise RuntimeError(f"dlt loaded {result['rows']} of {rows} rows")
    uses = {"dlt": run.processes["publisher"]}
    return Run(What.DLT, rows, result["seconds"], uses, f"{rows:,} merged"), result["version"]
