"""Writes tables as Parquet or CSV files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.data_dir.locks import try_lock
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.reporting.access import open_to_read

# What people look for in the warehouse; its other tables are the pipeline's own.
RAW_TABLES: Final = (
    *("playback_events", "playback_revisions", "dedupe_audit_log", "dead_letters"),
    *("import_ledger", "servers", "users", "libraries", "near_matches", "suspicious_plays"),
)
ANALYTICS_TABLES: Final = tuple(table.name for table in TABLES)
# Small row groups, because a row of the warehouse may have kilobytes.
_OPTIONS: Final = {
    "parquet": "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480, USE_TMP_FILE false",
    "csv": "FORMAT csv, HEADER, USE_TMP_FILE false",
}


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    table: str
    file: Path
    rows: int


def require_known(names: Sequence[str]) -> None:
    """Raise a `ConfigurationError` that lists the names that are no tables."""
    known = {*ANALYTICS_TABLES, *RAW_TABLES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            f"there {'is no table' if len(unknown) == 1 else 'are no tables'} {', '.join(unknown)}",
            hint="`tautulli-pipeline query 'SHOW TABLES'` lists those of the statistics, "
            "and `export --help` those of the warehouse",
        )


def export(
    database: Path, names: Sequence[str], folder: Path, format_name: str
) -> Iterator[Exported]:
    """Write each table to a file of its own, and yield what was written.

    A file is replaced atomically, so an older one stays whole until the new one is.

    Args:
        database: the analytics or the warehouse.
        names: tables of it.
        folder: where the files go; it is created.
        format_name: `parquet` or `csv`.

    Raises:
        ConfigurationError: a file cannot be written, or another export writes to the folder.
        WarehouseError: another program writes the database.
    """
    with _explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone_in(folder), open_to_read(database) as connection:
        for name in names:
            file = folder / f"{name}.{format_name}"
            with _explained(folder):
                yield Exported(name, file, _write(connection, name, file, format_name))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder, because two exports would write to the same unfinished file."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        if not try_lock(lock, fcntl.LOCK_EX):
            raise ConfigurationError(
                f"another export is writing to {folder}",
                hint="wait for its end, or name another folder with --to",
            )
        yield
    finally:
        os.close(lock)


def _write(connection: duckdb.DuckDBPyConnection, name: str, file: Path, format_name: str) -> int:
    unfinished = file.with_name(f"{file.name}.new")
    columns = _columns(connection, name, format_name)
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        rows = connection.execute(
            f"COPY (SELECT {columns} FROM {quote_identifier(name)}) "
            f"TO {quote_literal(str(unfinished))} ({_OPTIONS[format_name]})"
        ).fetchall()
        unfinished.replace(file)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return int(rows[0][0])


def _columns(connection: duckdb.DuckDBPyConnection, name: str, format_name: str) -> str:
    """Return the columns; lists are JSON in CSV files, which have no type for them."""
    described = connection.execute(f"DESCRIBE {quote_identifier(name)}").fetchall()
    expressions = []
    for column, kind, *_ in described:
        quoted = quote_identifier(column)
        is_list = format_name == "csv" and kind.endswith("[]")
        expressions.append(f"to_json({quoted}) AS {quoted}" if is_list else quoted)
    return ", ".join(expressions)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, duckdb.IOException) as error:
        cause = getattr(error, "strerror", None) or str(error).splitlines()[0].removeprefix(
            "IO Error: "
        )
        raise ConfigurationError(
            f"cannot write to {folder}: {cause}",
            hint="check that it has free space and is writable, or name another folder with --to",
        ) from error
