"""One measurement in a process of its own: `python -m benchmarks.worker NAME DATABASE FOLDER`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.processes import Watched, watched

DIRECT_COPY: Final = "benchmarks.direct_copy"
ADR: Final = "benchmarks.adr.publisher"
STAGES: Final = "benchmarks.stages"
RECORDING: Final = "benchmarks.recording"
# They measure the package's own functions, which its commands run like this.
_AS_IN_OUR_COMMANDS: Final = (STAGES, RECORDING)


def measure(name: str, database: Path, folder: Path) -> tuple[dict[str, Any], Watched]:
    """What the module `name` measures, and what its processes took; `folder` is made."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.worker", name, str(database), str(folder)]
    run = watched(command, folder)
    return json.loads(run.output), run


def main() -> None:
    """Measure, and print what came out as JSON."""
    name, database, folder = sys.argv[1:]
    if name in _AS_IN_OUR_COMMANDS:
        from tautulli_pipeline.memory import block_pandas, keep_memory_bounded

        keep_memory_bounded()
        block_pandas()
    result = import_module(name).measure(Path(database), Path(folder))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
