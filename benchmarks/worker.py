"""Runs one measurement in a new process: `python -m benchmarks.worker NAME DATABASE FOLDER`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.processes import MonitoredRun, run_monitored

DIRECT_COPY: Final = "benchmarks.direct_copy"
ADR: Final = "benchmarks.adr.publisher"
STAGES: Final = "benchmarks.stages"
RECORDING: Final = "benchmarks.recording"
# These call the package's own functions and need the memory settings of its commands.
_WITH_MEMORY_SETTINGS: Final = (STAGES, RECORDING)


def measure(name: str, database: Path, folder: Path) -> tuple[dict[str, Any], MonitoredRun]:
    """Create `folder`, run the module `name`, and return its result and resource use."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.worker", name, str(database), str(folder)]
    run = run_monitored(command, folder)
    return json.loads(run.output), run


def main() -> None:
    """Measure, and print the result as JSON."""
    name, database, folder = sys.argv[1:]
    if name in _WITH_MEMORY_SETTINGS:
        from tautulli_pipeline.memory import block_pandas, keep_memory_bounded

        keep_memory_bounded()
        block_pandas()
    result = import_module(name).measure(Path(database), Path(folder))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
