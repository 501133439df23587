"""Builds `analytics.duckdb` from the warehouse, and puts it in place atomically."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from tautulli_pipeline.analytics.building import Built
from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.analytics.inputs import (
    Inputs,
    Request,
    digest_of_contents,
    digest_of_settings,
    read_inputs,
    state_of,
    write_inputs,
)
from tautulli_pipeline.analytics.peaks import add_peaks
from tautulli_pipeline.analytics.summary import Summary, summarize, write_summary
from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import in_one_line
from tautulli_pipeline.events.identity import global_guid, quote_literal
from tautulli_pipeline.warehouse.memory_faults import is_out_of_memory
from tautulli_pipeline.warehouse.migration_files import migration_names
from tautulli_pipeline.warehouse.schema import (
    SETTINGS,
    STORAGE_VERSION,
    explained,
    open_warehouse,
)

_log = logging.getLogger(__name__)

_SQL: Final = Path(__file__).with_name("sql")
_SETTINGS: Final[dict[str, Any]] = {
    **SETTINGS,
    "threads": 2,
    "preserve_insertion_order": False,
    # Each join is written with its small side on the right. DuckDB's estimates are wrong by
    # factors here, and it would then keep a million wide rows in memory.
    "disabled_optimizers": "join_order,build_side_probe_side",
}
# The first is enough for a million plays, but not for a longer history or very long titles.
_MEMORY_LIMITS: Final = ("256MB", "1GB", "4GB")
# DuckDB looks for the log in another folder if a path holds `?`. With these settings, there is
# none, but a build takes half as long again.
_WITHOUT_LOG: Final[dict[str, Any]] = {
    "wal_autocheckpoint": "0B",
    "auto_checkpoint_skip_wal_threshold": 0,
}
# Files of `sql/` in order, and where the peaks of concurrent streams are added.
_BEFORE_PEAKS: Final = (
    *("newest", "names", "accounts", "libraries", "items", "plays", "watches", "plays_by"),
)
_AFTER_PEAKS: Final = ("streams_by", "top", "concurrency", "habits", "about")


def build(request: Request) -> Built:
    """Build the analytics, unless they are built from the same inputs already.

    The consumer's lock is held meanwhile, so that nothing else writes the warehouse.

    Raises:
        WarehouseError: another program writes the warehouse, or it cannot be read.
        duckdb.Error: the disk is full, or a table cannot be computed.
    """
    began_at = time.monotonic()
    layout = request.layout
    with consumer_lock(layout, request.warehouse), log_to(layout.log("analytics")):
        _remove_leftovers(layout)
        _migrate_if_needed(request)
        rows = _build_in_memory(request)
        built = Built(rows, round(time.monotonic() - began_at, 3))
        if rows is not None:
            _log.info("built the analytics of %d plays in %s s", rows["plays"], built.seconds)
    return built


def _build_in_memory(request: Request) -> dict[str, int] | None:
    """Build with as little memory as is enough."""
    *limits, most = _MEMORY_LIMITS
    for limit in limits:
        try:
            return _build_if_changed(request, limit)
        except duckdb.Error as error:
            if not is_out_of_memory(error):
                raise
            _log.info("the analytics need more than %s of memory: %s", limit, in_one_line(error))
            _remove_leftovers(request.layout)
    return _build_if_changed(request, most)


def _build_if_changed(request: Request, memory_limit: str) -> dict[str, int] | None:
    layout, warehouse = request.layout, state_of(request.warehouse)
    with _opened(request, memory_limit) as connection:
        found = Inputs(
            settings=digest_of_settings(request),
            warehouse=warehouse,
            contents=digest_of_contents(connection),
            result=state_of(layout.analytics),
        )
        recorded = read_inputs(layout)
        if recorded is not None and found == replace(recorded, warehouse=warehouse):
            write_inputs(layout, found)
            return None
        unfinished = layout.analytics.with_name(f"{layout.analytics.name}.new")
        rows, summary = _create_tables(connection, request, unfinished)
    _put_in_place(unfinished, layout.analytics)
    write_summary(layout, summary)
    write_inputs(layout, replace(found, result=state_of(layout.analytics)))
    return rows


@contextmanager
def _opened(
    request: Request, memory_limit: str = _MEMORY_LIMITS[0]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse to read, with a connection that other files can be attached to."""
    memory = {"temp_directory": f"{request.layout.analytics}.tmp", "memory_limit": memory_limit}
    log = _WITHOUT_LOG if "?" in str(request.data_dir) else {}
    with duckdb.connect(config={**_SETTINGS, **memory, **log}) as connection:
        path = quote_literal(str(request.warehouse))
        with explained(request.warehouse, "read"):
            connection.execute(f"ATTACH {path} AS warehouse (TYPE duckdb, READ_ONLY)")
        yield connection


def _migrate_if_needed(request: Request) -> None:
    """Bring the schema of the warehouse up to date if an earlier version wrote it."""
    with _opened(request) as connection:
        sql = "SELECT name FROM warehouse.schema_migrations"
        applied = {name for (name,) in connection.execute(sql).fetchall()}
    if {*migration_names()} - applied:
        with open_warehouse(request.warehouse):
            pass


def _create_tables(
    connection: duckdb.DuckDBPyConnection, request: Request, file: Path
) -> tuple[dict[str, int], Summary]:
    """Create every table with its comments in a new file.

    Returns:
        The number of rows of each table, and the sums over all plays.
    """
    connection.execute(
        f"ATTACH {quote_literal(str(file))} AS analytics "
        f"(TYPE duckdb, STORAGE_VERSION '{STORAGE_VERSION}')"
    )
    connection.execute("USE analytics")
    variables = {"timezone": request.timezone, "built_at": str(datetime.now(UTC))[:19]}
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = {quote_literal(value)}")
    _add_people(connection, request)
    shared = global_guid("guid", "live = 1")
    connection.execute(f"CREATE TEMP MACRO shared_guid(guid, live) AS {shared}")
    for name in _BEFORE_PEAKS:
        connection.execute((_SQL / f"{name}.sql").read_text())
    add_peaks(connection)
    for name in _AFTER_PEAKS:
        connection.execute((_SQL / f"{name}.sql").read_text())
    # In one transaction: a commit for each of 300 comments takes a third of a small build.
    connection.execute("; ".join(("BEGIN", *_comments(), "COMMIT")))
    rows = {
        table.name: int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()[0][0])
        for table in TABLES
    }
    summary = summarize(connection)
    connection.execute("USE memory")
    connection.execute("DETACH analytics")
    return rows, summary


def _add_people(connection: duckdb.DuckDBPyConnection, request: Request) -> None:
    connection.execute(
        "CREATE TEMP TABLE named_people (server_id VARCHAR, user_id INTEGER, person VARCHAR)"
    )
    for one in request.people:
        connection.execute(
            "INSERT INTO named_people VALUES (?, ?, ?)", [one.server_id, one.user_id, one.person]
        )


def _comments() -> Iterator[str]:
    for table in TABLES:
        yield f"COMMENT ON TABLE {table.name} IS {quote_literal(table.description)}"
        for column in table.columns:
            words = quote_literal(table.comment(column))
            yield f'COMMENT ON COLUMN {table.name}."{column}" IS {words}'


def _put_in_place(unfinished: Path, file: Path) -> None:
    """Replace the file that people open; those who have the old one open keep it."""
    # A default open would take it for writing, and nobody else could open it then. DuckDB has
    # flushed it to the disk.
    unfinished.chmod(0o400)
    # DuckDB would replay the log of whoever wrote to the old file into the new one.
    file.with_name(f"{file.name}.wal").unlink(missing_ok=True)
    unfinished.replace(file)


def _remove_leftovers(layout: DataDir) -> None:
    """Remove what a killed build left, and a log beside the analytics, which is not ours."""
    for path in layout.path.glob("analytics.duckdb.*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
