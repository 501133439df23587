"""Names the process that has the warehouse open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil

from tautulli_pipeline.errors import WarehouseHeldError

_CONSUMER: Final = ("-m", "tautulli_pipeline.imports.consumer_main")
# A run is a child of the code server of Dagster.
_WORKER: Final = "--multiprocessing-fork"
_CODE_SERVER: Final = frozenset({"dagster", "tautulli_pipeline.definitions"})
_COMMANDS: Final = frozenset({"tautulli-pipeline", "tautulli_pipeline"})


def held_by(path: Path, operation: str, cause: str) -> WarehouseHeldError | None:
    """Return the error that names the holder of the warehouse; None if it is another error.

    Args:
        path: the warehouse.
        operation: what could not be done with it.
        cause: the message of DuckDB.
    """
    if "Could not set lock on file" not in cause:
        return None
    named = re.search(r"lock is held in (.+?) \(PID (\d+)\)", cause)
    # DuckDB cannot name a process of another container or machine.
    holder = "another program has it open"
    hint = "close that program, or set DUCKDB_PATH to another file"
    if named:
        holder = f"process {named[2]} ({named[1]}) has it open"
        if doing := _doing_of(int(named[2])):
            holder = f"{doing} (process {named[2]})"
            hint = "wait until it is done; `tautulli-pipeline status` shows the progress of imports"
    return WarehouseHeldError(f"cannot {operation} the warehouse {path}: {holder}", hint=hint)


def _doing_of(process_id: int) -> str:
    """Return what a process of this pipeline is doing; '' for any other process."""
    with suppress(psutil.Error):
        process = psutil.Process(process_id)
        parent = process.parent()
        return doing_of(process.cmdline(), parent.cmdline() if parent else ())
    return ""


def doing_of(command: Sequence[str], parent: Sequence[str] = ()) -> str:
    """Return what a process of this pipeline does; '' for any other program.

    Args:
        command: its command line.
        parent: the command line of its parent.
    """
    if _CONSUMER in pairwise(command):
        return "an import is running"
    if _WORKER in command and {*parent} >= _CODE_SERVER:
        return "a run of Dagster is storing events"
    # The command itself, or the interpreter that runs it.
    if {Path(part).name for part in command[:3]} & _COMMANDS:
        return "another command of this pipeline is using it"
    return ""
