"""Opening the warehouse: its lock, its settings and its numbered migrations."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import duckdb

from tautulli_pipeline.errors import WarehouseError, WarehouseHeldError
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.warehouse.transaction import transaction

# A transaction that fills a row group is compressed straight into the file, so the
# write-ahead log stays small and no checkpoint has to write it again.
ROWS_PER_TRANSACTION: Final = 4096
# Its compression of text takes half the time of the default's, in less space.
STORAGE_VERSION: Final = "v1.3.0"
# Once it writes, DuckDB keeps the three unique indexes in memory, whole.
_INDEX_BYTES_A_ROW: Final = 134
_WORKING_BYTES: Final = 136 * 2**20
ROWS_PER_ROOM: Final = 2**14
SETTINGS: Final[dict[str, Any]] = {
    "threads": 1,
    "memory_limit": f"{_WORKING_BYTES}B",
    "wal_autocheckpoint": "1GB",
    # Nothing is fetched at run time, and no extension changes what a cast means.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# What DuckDB raises where the file or its log cannot be read or written.
_FILE_FAULTS: Final = (
    duckdb.IOException,
    duckdb.TransactionException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
)
_POLL_SECONDS: Final = 0.5
_MIGRATIONS: Final = "schema_migrations"
_RECORD: Final = {"name", "applied_at"}


def connect(path: Path, config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """Open the warehouse for writing, its schema up to date.

    Raises:
        WarehouseError: another process holds the file, or it cannot be made.
    """
    # What does not fit into memory would else be spilled into the current directory.
    beside = {"temp_directory": f"{path}.tmp"}
    connection = duckdb.connect(config={**SETTINGS, **beside, **config})
    try:
        with explained(path, "open"):
            _make_folder(path)
            if not path.exists():
                _make_file(connection, path)
            # TYPE: of another kind of file, DuckDB would look for an extension that reads it.
            connection.execute(
                f"ATTACH {quote_literal(str(path))} AS warehouse "
                f"(TYPE duckdb, ROW_GROUP_SIZE {ROWS_PER_TRANSACTION})"
            )
            connection.execute("USE warehouse")
            _require_room_for_tables(connection, path)
            migrate(connection)
            if "memory_limit" not in config:
                make_room_for_indexes(connection)
            # What a crash left in the log does not mix with what comes: see `WriteAheadLog`.
            connection.execute("CHECKPOINT")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def open_warehouse(
    path: Path,
    config: Mapping[str, Any] | None = None,
    *,
    wait_seconds: float = 0.0,
    on_wait: Callable[[str], None] = lambda _words: None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The one connection that writes, with the schema up to date.

    Args:
        path: the DuckDB file, which need not be there yet.
        config: DuckDB settings besides our own.
        wait_seconds: how long to wait for a program that holds the file.
        on_wait: hears who holds it, and may raise to end the wait.

    Raises:
        WarehouseHeldError: another process still holds the file.
        WarehouseError: it cannot be opened or written.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            connection = connect(path, config or {})
            break
        except WarehouseHeldError as error:
            if time.monotonic() >= deadline:
                raise
            on_wait(f"{error.message}; waiting until it is closed")
        time.sleep(_POLL_SECONDS)
    with connection, explained(path, "write"):
        yield connection


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _warehouse_error(path, "open", str(error)) from error


def _make_file(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make an empty database under another name first: half of one could never be opened."""
    target = path.resolve()
    log = target.with_name(f"{target.name}.wal")
    if log.exists():  # DuckDB would replay it into the new file
        raise WarehouseError(
            f"cannot make the warehouse {path}: the log of another one is left beside it, {log}",
            hint="put that database back beside its log, or delete the log with it",
        )
    unfinished = target.with_name(f"{target.name}.new")
    unfinished.unlink(missing_ok=True)
    connection.execute(
        f"ATTACH {quote_literal(str(unfinished))} AS unfinished "
        f"(TYPE duckdb, STORAGE_VERSION '{STORAGE_VERSION}')"
    )
    connection.execute("DETACH unfinished")
    unfinished.replace(target)


def _require_room_for_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse a database where somebody else's tables have the names of ours.

    Raises:
        WarehouseError: it is such a one; nothing in it was changed.
    """
    columns: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = 'warehouse' AND schema_name = 'main'"
    ).fetchall():
        columns.setdefault(table, set()).add(column)
    foreign = {_MIGRATIONS} if columns.get(_MIGRATIONS, _RECORD) != _RECORD else set()
    if not foreign:
        outstanding = _outstanding(connection) if _MIGRATIONS in columns else migrations()
        foreign = _made_by(outstanding.values()) & columns.keys()
    if foreign:
        raise WarehouseError(
            f"cannot use the warehouse {path}: its {min(foreign)} is not of this pipeline",
            hint="set DUCKDB_PATH to another file, or to one that is not there yet",
        )


def _outstanding(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The migrations that were not applied yet."""
    rows = connection.execute(f"SELECT name FROM {_MIGRATIONS}").fetchall()
    return {name: sql for name, sql in migrations().items() if (name,) not in rows}


def _made_by(scripts: Iterable[str]) -> set[str]:
    return {name for sql in scripts for name in re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", sql)}


@contextmanager
def explained(path: Path, operation: str) -> Iterator[None]:
    """Turn DuckDB's faults about the file into ours, saying which process holds it."""
    try:
        yield
    except _FILE_FAULTS as error:
        raise _warehouse_error(path, operation, str(error)) from error


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the schema up to date; each migration is recorded in its own transaction."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(name VARCHAR PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
    )
    for name, sql in _outstanding(connection).items():
        with transaction(connection):
            connection.execute(sql)
            connection.execute(
                "INSERT INTO schema_migrations VALUES (?, epoch_ms(epoch_ms(now())))", [name]
            )


def migrations() -> dict[str, str]:
    """Name and SQL of each migration, in order."""
    folder = files(__package__) / "migrations"
    scripts = sorted((f.name, f) for f in folder.iterdir() if f.name.endswith(".sql"))
    return {name: script.read_text() for name, script in scripts}


def make_room_for_indexes(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise the memory limit to what the table needs, and `ROWS_PER_ROOM` more.

    What a limit too tight for them ends leaves keys in the indexes without rows.
    """
    ((found,),) = connection.execute(
        "SELECT sum(estimated_size) FROM duckdb_tables() WHERE table_name = 'playback_events'"
    ).fetchall()
    rows = int(found or 0) + ROWS_PER_ROOM
    connection.execute(f"SET memory_limit = '{_WORKING_BYTES + rows * _INDEX_BYTES_A_ROW}B'")


def warehouse_id(connection: duckdb.DuckDBPyConnection) -> str:
    """Names this warehouse; a file made anew has another one."""
    ((identity,),) = connection.execute("SELECT warehouse_id FROM warehouse_identity").fetchall()
    return str(identity)


def count_events(connection: duckdb.DuckDBPyConnection) -> int:
    """Rows of `playback_events`."""
    ((rows,),) = connection.execute("SELECT count(*) FROM playback_events").fetchall()
    return int(rows)


def _warehouse_error(path: Path, operation: str, cause: str) -> WarehouseError:
    holder = re.search(r"lock is held in (.+?) \(PID (\d+)\)", cause)
    if holder:
        return WarehouseHeldError(
            f"cannot {operation} the warehouse {path}: process {holder[2]} ({holder[1]}) holds it",
            hint="close that program, or set DUCKDB_PATH to another file",
        )
    return WarehouseError(
        f"cannot {operation} the warehouse {path}: {_first_cause(cause)}",
        hint=_TO_WRITE if operation == "write" else _TO_OPEN,
    )


_TO_OPEN: Final = "set DUCKDB_PATH to a DuckDB file, or to a new one in a folder you may write"
_TO_WRITE: Final = "see that its folder has room and can be written, then import again to resume"


def _first_cause(words: str) -> str:
    """What came first of what DuckDB tells, without the kinds it puts before it."""
    first = words.splitlines()[0].rpartition("Original error: ")[2].strip('" ')
    return re.sub(r"^((\w+ )*Error: |Failed to commit: )+", "", first)
