"""What the writer knows about messages that made the warehouse fail."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.warehouse.memory_faults import is_out_of_memory
from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION
from tautulli_pipeline.warehouse.screening import refuse
from tautulli_pipeline.warehouse.transaction import FailedCommitError

_DISK: Final = re.compile("IO Error|No space left|File too large|Disk quota|Read-only file system")


@dataclass
class Caution:
    """Outlives the connection, so that the message that broke the warehouse is found.

    Attributes:
        most_rows: messages in one transaction.
        blamed: the faults of messages that cannot be stored, by sequence.
    """

    most_rows: int = ROWS_PER_TRANSACTION
    blamed: dict[int, str] = field(default_factory=dict)

    def blame(self, portion: pa.Table, error: Exception) -> None:
        """Remember that the warehouse broke while it wrote this portion."""
        if len(portion) > 1:
            self.most_rows = len(portion) // 2
        else:
            self.blamed[portion["sequence"][0].as_py()] = _fault(error)
            self.most_rows = ROWS_PER_TRANSACTION

    def without_blamed(self, portion: pa.Table) -> pa.Table:
        """Return the portion with refusals of the messages to blame."""
        if not self.blamed:
            return portion
        faults = [self.blamed.get(n) for n in portion["sequence"].to_pylist()]
        return refuse(portion, faults) if any(faults) else portion


def blamed(message: pa.Table, error: Exception) -> pa.Table:
    """Return a single message as a refused one."""
    return refuse(message, [_fault(error)])


def is_fault_of_disk(error: Exception) -> bool:
    """Whether writing failed whatever the messages are."""
    return isinstance(error, OSError | duckdb.IOException) or bool(_DISK.search(str(error)))


def is_broken(connection: duckdb.DuckDBPyConnection, error: Exception) -> bool:
    """Whether the connection may no longer be written with after this error."""
    if isinstance(error, FailedCommitError):
        return True
    try:
        connection.execute("SELECT 1")
    except duckdb.Error:
        return True
    return False


def _fault(error: Exception) -> str:
    if is_out_of_memory(error):
        return "message does not fit in memory"
    cause = str(error).partition("\n")[0][:200]
    return f"message cannot be stored: {type(error).__name__}: {cause}"
