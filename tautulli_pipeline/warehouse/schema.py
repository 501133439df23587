"""Opens the warehouse: its lock, settings and numbered migrations."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import duckdb

from tautulli_pipeline.errors import (
    WarehouseBrokenError,
    WarehouseError,
    WarehouseHeldError,
    WarehouseVersionError,
)
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.warehouse.holders import held_by
from tautulli_pipeline.warehouse.memory_faults import is_out_of_memory
from tautulli_pipeline.warehouse.migration_files import migrations
from tautulli_pipeline.warehouse.transaction import transaction
from tautulli_pipeline.warehouse.upgrade import (
    AFTER_STEPS,
    OnUpgraded,
    upgrade_rows,
)
from tautulli_pipeline.warehouse.upgrade_room import require_room

# DuckDB compresses a transaction that fills a row group directly into the file, so the
# write-ahead log stays small and no checkpoint has to write the rows again.
ROWS_PER_TRANSACTION: Final = 4096
# Compresses text in half the time of the default version, and to a smaller size.
STORAGE_VERSION: Final = "v1.3.0"
# While writing, DuckDB keeps the three unique indexes completely in memory.
_INDEX_BYTES_PER_ROW: Final = 134
_WORKING_BYTES: Final = 144 * 2**20
# Replaying the log and writing it into the file hold whole row groups in memory.
_CHECKPOINT_BYTES: Final = 96 * 2**20
# DuckDB does not count what it needs to log a new index.
_UNCOUNTED_BYTES: Final = 72 * 2**20
HEADROOM_ROWS: Final = 2**14
# As a limit: tables of any size.
_ANY_ROWS: Final = 2**62
SETTINGS: Final[dict[str, Any]] = {
    "threads": 1,
    "memory_limit": f"{_WORKING_BYTES + _CHECKPOINT_BYTES}B",
    "wal_autocheckpoint": "1GB",
    # Download nothing at run time, and let no extension change what a cast means.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# DuckDB puts `.wal` before the first `?` of a path, where there is no folder. With these
# settings, it checkpoints each transaction and never makes a log.
_WITHOUT_LOG: Final[dict[str, Any]] = {
    "wal_autocheckpoint": "0B",
    "auto_checkpoint_skip_wal_threshold": 0,
}
# Raised by DuckDB if the file or its log cannot be read or written.
_FILE_ERRORS: Final = (
    duckdb.IOException,
    duckdb.TransactionException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
)
_POLL_SECONDS: Final = 0.5
_MIGRATIONS: Final = "schema_migrations"
# The migrations of version 0.1.0; they never change.
_RELEASED: Final = frozenset(
    {"0001_playback_events.sql", "0002_audit_and_ledger.sql", "0003_reviews.sql"}
)
_UPGRADE_HINT: Final = (
    "run an import to upgrade it: `tautulli-pipeline import /path/to/tautulli.db`"
)


def _unheard(_done: int, _total: int) -> None:
    """Show nothing of an upgrade."""


def connect(
    path: Path, config: Mapping[str, Any], on_upgraded: OnUpgraded = _unheard
) -> duckdb.DuckDBPyConnection:
    """Open the warehouse for writing and apply outstanding migrations.

    `on_upgraded` receives the progress of an upgrade from version 0.1.0.

    Raises:
        WarehouseError: another process has the file open, it cannot be created, or its disk has
            no room for an upgrade.
    """
    connection = _attached(path, config)
    while _is_outdated(connection):
        # Each migration of stored rows has the memory of a connection to itself.
        with connection, explained(path, "upgrade"):
            if AFTER_STEPS in _outstanding(connection):
                require_room(connection, path)
            _apply_next(connection, on_upgraded)
            checkpoint(connection)
        connection = _attached(path, config)
    try:
        with explained(path, "open"):
            migrate(connection)
            if _has_large_plays(connection):
                _keep_row_groups(connection)
            # The log left by a crash must not mix with new transactions: see `WriteAheadLog`.
            checkpoint(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _attached(path: Path, config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    # By default, DuckDB would spill to the current directory.
    spill = {"temp_directory": f"{path}.tmp"}
    log = _WITHOUT_LOG if "?" in str(path.resolve()) else {}
    connection = duckdb.connect(config={**SETTINGS, **spill, **log, **config})
    try:
        with explained(path, "open"):
            _create_folder(path)
            if not path.exists():
                _create_file(connection, path)
            _attach(connection, str(path))
            _refuse_foreign_tables(connection, path)
            if "memory_limit" in config:
                connection.execute("SET VARIABLE has_configured_limit = true")
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
    on_wait: Callable[[WarehouseHeldError], None] = lambda _held: None,
    on_upgraded: OnUpgraded = _unheard,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the only writing connection, with the schema up to date.

    Args:
        path: the DuckDB file; created if it does not exist.
        config: DuckDB settings that extend or override `SETTINGS`.
        wait_seconds: how long to wait for another program to close the file.
        on_wait: called with the error that names that program; may raise to end the wait.
        on_upgraded: receives the rows that an upgrade has done, and all; may raise to interrupt it.

    Raises:
        WarehouseHeldError: another process still has the file open.
        WarehouseError: it cannot be opened or written.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            connection = connect(path, config or {}, on_upgraded)
            break
        except WarehouseHeldError as error:
            if time.monotonic() >= deadline:
                raise
            on_wait(error)
        time.sleep(_POLL_SECONDS)
    with connection, explained(path, "write"):
        try:
            yield connection
        finally:
            # Closing writes the log into the file. After a fatal error, it is closed already.
            with suppress(duckdb.Error):
                set_memory_limit(connection, _CHECKPOINT_BYTES)


def _attach(connection: duckdb.DuckDBPyConnection, path: str, options: str = "") -> None:
    # Without TYPE, DuckDB would look for an extension that reads other kinds of files.
    connection.execute(
        f"ATTACH {quote_literal(path)} AS warehouse "
        f"(TYPE duckdb, ROW_GROUP_SIZE {ROWS_PER_TRANSACTION}{options})"
    )
    connection.execute("USE warehouse")


def split_row_groups(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on, begin a row group with the first rows after each checkpoint.

    DuckDB only does so for tables whose indexes it may rebuild, to join small row groups later.
    It takes this option when a file is opened. The warehouse remembers that it has large plays.

    Raises:
        WarehouseBrokenError: another program has opened the file in between.
    """
    ((path,),) = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = 'warehouse'"
    ).fetchall()
    connection.execute("UPDATE warehouse_identity SET has_large_plays = true")
    checkpoint(connection)
    _keep_row_groups(connection)
    connection.execute("USE memory")
    connection.execute("DETACH warehouse")
    try:
        _attach(connection, path, f", VACUUM_REBUILD_INDEXES {_ANY_ROWS}")
    except _FILE_ERRORS as error:
        cause = _first_cause(str(error))
        raise WarehouseBrokenError(
            f"cannot open the warehouse {path} again: {cause}", hint="run the command again"
        ) from error


def _keep_row_groups(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep checkpoints from joining small row groups: they read all of their rows at once."""
    connection.execute("SET max_vacuum_tasks = 0")


def _has_large_plays(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        rows = connection.execute("SELECT has_large_plays FROM warehouse_identity").fetchall()
    except (duckdb.BinderException, duckdb.CatalogException):  # some migrations are outstanding
        return False
    return (True,) in rows


def _create_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _warehouse_error(path, "open", str(error)) from error


def _create_file(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create the database under another name first: an unfinished file cannot be opened."""
    target = path.resolve()
    log = target.with_name(f"{target.name}.wal")
    if log.exists():  # DuckDB would replay it into the new file
        raise WarehouseError(
            f"cannot create the warehouse {path}: the log of another database exists: {log}",
            hint="move that database back next to its log, or delete the log",
        )
    unfinished = target.with_name(f"{target.name}.new")
    unfinished.unlink(missing_ok=True)
    connection.execute(
        f"ATTACH {quote_literal(str(unfinished))} AS unfinished "
        f"(TYPE duckdb, STORAGE_VERSION '{STORAGE_VERSION}')"
    )
    connection.execute("DETACH unfinished")
    unfinished.replace(target)


def _refuse_foreign_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse a database in which tables of another program have the names of ours.

    Raises:
        WarehouseError: there is such a table; nothing was changed.
    """
    found = {name for (name,) in connection.execute("SHOW TABLES").fetchall()}
    try:
        outstanding = _outstanding(connection) if _MIGRATIONS in found else migrations()
        if _MIGRATIONS in found:
            refuse_unknown_migrations(connection, path)
        foreign = _created_by(outstanding.values()) & found
    except duckdb.BinderException:
        foreign = {_MIGRATIONS}
    if foreign:
        raise WarehouseError(
            f"cannot use the warehouse {path}: "
            f"table {min(foreign)} was not created by this pipeline",
            hint="set DUCKDB_PATH to another file or to a new one",
        )


def refuse_unknown_migrations(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse a warehouse that a newer version has changed.

    Raises:
        WarehouseVersionError: there is an unknown migration; nothing was changed.
    """
    applied, known = _applied(connection), list(migrations())
    unknown = sorted(applied - set(known))
    if not unknown and applied != set(known[: len(applied)]):
        unknown = [name for name in known if name in applied][-1:]
    if unknown:
        raise WarehouseVersionError(
            f"cannot use the warehouse {path}: a newer or an unreleased version of the pipeline "
            f"has changed it ({unknown[0]})",
            hint="install the newest version, or set DUCKDB_PATH to another file",
        )


def require_current(
    connection: duckdb.DuckDBPyConnection, path: Path, *, or_released: bool = False
) -> None:
    """Refuse to read a warehouse that is not of this version.

    Args:
        connection: the warehouse.
        path: its file.
        or_released: also accept one of version 0.1.0 whose upgrade has not begun.

    Raises:
        WarehouseVersionError: a newer version has changed it, or it has to be upgraded first.
    """
    refuse_unknown_migrations(connection, path)
    if not _outstanding(connection):
        return
    if _applied(connection) - _RELEASED:
        raise WarehouseVersionError(
            f"cannot read the warehouse {path}: its upgrade from version 0.1.0 is not finished",
            hint=_UPGRADE_HINT,
        )
    if not or_released:
        raise is_released(path)


def is_released(path: Path) -> WarehouseVersionError:
    """Return the error that a warehouse is of version 0.1.0."""
    return WarehouseVersionError(
        f"cannot read the warehouse {path}: it is of version 0.1.0", hint=_UPGRADE_HINT
    )


def _outstanding(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the migrations that have not been applied yet."""
    applied = _applied(connection)
    return {name: sql for name, sql in migrations().items() if name not in applied}


def _is_outdated(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether an earlier version has written the warehouse."""
    tables = {name for (name,) in connection.execute("SHOW TABLES").fetchall()}
    return _MIGRATIONS in tables and bool(_applied(connection) and _outstanding(connection))


def _applied(connection: duckdb.DuckDBPyConnection) -> set[str]:
    rows = connection.execute(f"SELECT name, applied_at FROM {_MIGRATIONS}").fetchall()
    return {name for name, _ in rows}


def _created_by(scripts: Iterable[str]) -> set[str]:
    return {name for sql in scripts for name in re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", sql)}


@contextmanager
def explained(path: Path, operation: str) -> Iterator[None]:
    """Turn DuckDB's file errors into `WarehouseError`s that name the process that has it open."""
    try:
        yield
    except _FILE_ERRORS as error:
        raise _warehouse_error(path, operation, str(error)) from error


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply outstanding migrations, each in its own transaction that also records it."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(name VARCHAR PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
    )
    for _ in _outstanding(connection):
        _apply_next(connection)


def _apply_next(connection: duckdb.DuckDBPyConnection, on_upgraded: OnUpgraded = _unheard) -> None:
    """Apply the first outstanding migration, and what has to be done before it."""
    name, sql = next(iter(_outstanding(connection).items()))
    if name == AFTER_STEPS:
        set_memory_limit(connection, table="dedupe_audit_log")
        upgrade_rows(connection, checkpoint=_end_part, on_upgraded=on_upgraded)
    set_memory_limit(connection, -_UNCOUNTED_BYTES)
    with transaction(connection):
        connection.execute(sql)
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, epoch_ms(epoch_ms(now())))", [name]
        )


def _end_part(connection: duckdb.DuckDBPyConnection) -> None:
    """Write a part of the upgrade into the file; the only index that grows is that of the copy."""
    checkpoint(connection)
    set_memory_limit(connection, table="dedupe_audit_log")


def set_memory_limit(
    connection: duckdb.DuckDBPyConnection, spare_bytes: int = 0, table: str = "playback_events"
) -> None:
    """Set a memory limit under which the indexes of a table can grow by `HEADROOM_ROWS` rows.

    If a transaction fails because of a low limit, keys without rows stay in the indexes.
    `spare_bytes` are added to the limit. A configured limit is kept.
    """
    ((found, is_configured),) = connection.execute(
        "SELECT sum(estimated_size), getvariable('has_configured_limit') "
        "FROM duckdb_tables() WHERE table_name = ?",
        [table],
    ).fetchall()
    if not is_configured:
        rows = int(found or 0) + HEADROOM_ROWS
        limit_bytes = _WORKING_BYTES + rows * _INDEX_BYTES_PER_ROW + spare_bytes
        connection.execute(f"SET memory_limit = '{limit_bytes}B'")


@contextmanager
def spare_memory(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Allow the memory that a checkpoint may need, or a commit after one."""
    set_memory_limit(connection, _CHECKPOINT_BYTES)
    try:
        yield
    finally:
        with suppress(duckdb.FatalException):  # the connection is of no more use
            set_memory_limit(connection)


@contextmanager
def write_transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit everything in the block, or nothing; the commit has memory of its own."""
    with ExitStack() as committing, transaction(connection):
        yield
        committing.enter_context(spare_memory(connection))


def checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the log into the file, with the memory that this may need."""
    with spare_memory(connection):
        connection.execute("CHECKPOINT")


def warehouse_id(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the id of this warehouse; a recreated file has a new id."""
    ((identity,),) = connection.execute("SELECT warehouse_id FROM warehouse_identity").fetchall()
    return str(identity)


def _warehouse_error(path: Path, operation: str, cause: str) -> WarehouseError:
    if held := held_by(path, operation, cause):
        return held
    hint = "set DUCKDB_PATH to a DuckDB file, or to a new file in a folder you can write to"
    if is_out_of_memory(cause):
        return WarehouseError(
            f"cannot {operation} the warehouse {path}: out of memory: {_first_cause(cause)}",
            hint="close other programs, or raise the memory limit of the container, and run the "
            "command again",
        )
    if operation in {"write", "upgrade"}:
        hint = "check that its folder is writable and has free space, then import again to resume"
    return WarehouseError(
        f"cannot {operation} the warehouse {path}: {_first_cause(cause)}", hint=hint
    )


def _first_cause(message: str) -> str:
    """Return the first cause in a DuckDB message, without the error types in front of it."""
    first = message.splitlines()[0].rpartition("Original error: ")[2].strip('" ')
    return re.sub(r"^((\w+ )*Error: |Failed to commit: )+", "", first)
