"""Whether the disk has room for the upgrade from version 0.1.0."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import duckdb

from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.warehouse.upgrade import IS_CORRECTION, rows_done

# The log, the indexes and what does not fit into memory.
_SPARE_BYTES: Final = 96 * 2**20
_SIZES_IN_FILE: Final = """
    SELECT s.blocks * d.block_size, d.used_blocks * d.block_size, d.free_blocks * d.block_size
    FROM pragma_database_size() d, (
        SELECT count(DISTINCT block) AS blocks FROM (
            SELECT unnest(list_append(additional_block_ids, block_id)) AS block
            FROM pragma_storage_info('dedupe_audit_log') WHERE persistent
        )
    ) s
    WHERE d.database_name = current_database()
"""
_COUNTS: Final = f"""
    SELECT (SELECT count(*) FROM playback_events), count(*), count(*) FILTER ({IS_CORRECTION})
    FROM dedupe_audit_log
"""


def require_room(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse an upgrade for which the disk of the warehouse has no room.

    Raises:
        WarehouseError: there is too little room; nothing was changed.
    """
    needed, free = needed_bytes(connection), shutil.disk_usage(path.parent).free
    if needed > free:
        raise WarehouseError(
            f"cannot upgrade the warehouse {path}: this needs {_megabytes(needed)} MB of disk "
            f"space, and {_megabytes(free)} MB are free",
            hint="make room, or move the file to a larger disk and set DUCKDB_PATH; "
            "nothing was changed",
        )


def needed_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Return by how much the file may grow: the audit log is copied, and revisions are added."""
    ((audit, used, free),) = connection.execute(_SIZES_IN_FILE).fetchall()
    ((plays, logged, corrections),) = connection.execute(_COUNTS).fetchall()
    done = rows_done(connection, "dedupe_audit_log") if _has_begun(connection) else 0
    left = 1 - done / logged if logged else 0
    revisions = corrections * (used - audit) / plays if plays else 0
    return _SPARE_BYTES + max(0, int((audit + revisions) * left) - int(free))


def _has_begun(connection: duckdb.DuckDBPyConnection) -> bool:
    found = "SELECT count(*) > 0 FROM duckdb_tables() WHERE table_name = 'upgrade_progress'"
    return bool(connection.execute(found).fetchall()[0][0])


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f}"
