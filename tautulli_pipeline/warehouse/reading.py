"""Reads the warehouse without writing: pages of a table, and rows by id prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.warehouse.schema import (
    SETTINGS,
    explained,
    refuse_unknown_migrations,
    require_current,
)

_IDS_NAMED: Final = 3
_ID_LENGTH: Final = 36

OpenWarehouse = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Page:
    """The part of a list to show."""

    limit: int
    offset: int = 0


@dataclass(frozen=True)
class Listing:
    """One page of a list, and the number of rows on all pages."""

    total: int
    rows: list[dict[str, Any]]


@contextmanager
def open_to_read(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse at `path` read-only; it may be of version 0.1.0.

    Raises:
        WarehouseError: another process is writing to it, or it is not a warehouse of this version.
    """
    config = {**SETTINGS, "temp_directory": f"{path}.tmp"}
    with duckdb.connect(config=config) as connection, explained(path, "read"):
        connection.execute(
            f"ATTACH {quote_literal(str(path))} AS warehouse (TYPE duckdb, READ_ONLY)"
        )
        connection.execute("USE warehouse")
        try:
            require_current(connection, path, or_released=True)
            yield connection
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            with suppress(duckdb.Error):
                require_current(connection, path)
            raise WarehouseError(
                f"cannot read the warehouse {path}: it lacks a table or column "
                "of this version of the pipeline",
                hint="run an import to update it, or set DUCKDB_PATH to another file",
            ) from error


def refuse_newer(path: Path) -> None:
    """Refuse a warehouse that a newer version has changed; write nothing, not even beside it.

    One that cannot be read now is not refused: whatever opens it next reports this.

    Raises:
        WarehouseVersionError: a newer or an unreleased version has changed it.
    """
    config = {**SETTINGS, "temp_directory": ""}
    with suppress(duckdb.Error), duckdb.connect(config=config) as connection:
        connection.execute(
            f"ATTACH {quote_literal(str(path))} AS warehouse (TYPE duckdb, READ_ONLY)"
        )
        connection.execute("USE warehouse")
        refuse_unknown_migrations(connection, path)


def fetch_dicts(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object]
) -> list[dict[str, Any]]:
    """Return the rows of a query as dicts by column name."""
    cursor = connection.execute(sql, dict(parameters))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def parsed(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the parsed JSON, or its text if it is nested too deeply to parse."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def list_page(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: str,
    filters: Mapping[str, object],
    page: Page,
    *,
    conditions: Sequence[str] = (),
) -> Listing:
    """Return one page of a table of duplicates or dead letters, newest rows first.

    `filters` are required values by column, where None matches any value; `conditions` are
    further SQL conditions.
    """
    where, wanted = _where(filters, conditions)
    count = f"SELECT count(*) FROM {table} WHERE {where}"
    ((total,),) = connection.execute(count, wanted).fetchall()
    # Find the page by the narrow columns, then read all columns of its rows only.
    newest = "created_at DESC, stream_sequence DESC, source_row_id DESC, id"
    chosen = f"""
        SELECT id FROM {table} WHERE {where}
        ORDER BY {newest} LIMIT {page.limit:d} OFFSET {page.offset:d}
    """
    try:
        rows = fetch_dicts(
            connection,
            f"SELECT {columns} FROM {table} WHERE id IN ({chosen}) ORDER BY {newest}",
            wanted,
        )
        return Listing(total, rows)
    except duckdb.OutOfMemoryException:
        ids = connection.execute(chosen, wanted).fetchall()
    # Large records: the index finds one row without reading others.
    one = f"SELECT {columns} FROM {table} WHERE id = $id"
    return Listing(total, [fetch_dicts(connection, one, {"id": row_id})[0] for (row_id,) in ids])


def list_ids(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    filters: Mapping[str, object],
    conditions: Sequence[str],
) -> list[str]:
    """Return the ids of the rows that `list_page` would list, oldest first."""
    where, wanted = _where(filters, conditions)
    oldest = "created_at, stream_sequence, source_row_id, id"
    found = connection.execute(
        f"SELECT id::VARCHAR FROM {table} WHERE {where} ORDER BY {oldest}", wanted
    ).fetchall()
    return [row_id for (row_id,) in found]


def _where(
    filters: Mapping[str, object], conditions: Sequence[str]
) -> tuple[str, dict[str, object]]:
    wanted = {name: value for name, value in filters.items() if value is not None}
    equal = [f"{quote_identifier(name)} = ${name}" for name in wanted]
    return " AND ".join([*equal, *conditions]) or "true", wanted


def list_found(connection: duckdb.DuckDBPyConnection, sql: str, page: Page) -> Listing:
    """Return one page of the result of a query, which runs once."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {sql}")
    ((total,),) = connection.execute("SELECT count(*) FROM found").fetchall()
    rows = fetch_dicts(connection, f"FROM found LIMIT {page.limit:d} OFFSET {page.offset:d}", {})
    return Listing(total, rows)


def find_row(
    connection: duckdb.DuckDBPyConnection, table: str, columns: str, prefix: str, kind: str
) -> dict[str, Any]:
    """Return these columns of the row whose id starts with `prefix`.

    Raises:
        ConfigurationError: there is no such row, or more than one.
    """
    (row_id,) = find_ids(connection, table, [prefix], kind)
    sql = f"SELECT {columns} FROM {table} WHERE {table}.id = $id::UUID"
    return fetch_dicts(connection, sql, {"id": row_id})[0]


def find_ids(
    connection: duckdb.DuckDBPyConnection, table: str, prefixes: Sequence[str], kind: str
) -> list[str]:
    """Return the ids that start with these prefixes, in their order.

    Raises:
        ConfigurationError: there is no such row for a prefix, or more than one.
    """
    wanted = {prefix: prefix.strip().lower() for prefix in prefixes}
    valid = [text for text in wanted.values() if re.fullmatch(r"[0-9a-f-]+", text)]
    found = connection.execute(
        f"""
        WITH given AS (SELECT DISTINCT unnest($given::VARCHAR[]) AS beginning),
        ids AS (SELECT id::VARCHAR AS id FROM {table}),
        matches AS (
            SELECT beginning, id FROM given JOIN ids ON id = beginning
            UNION ALL
            SELECT beginning, id FROM (FROM given WHERE strlen(beginning) < {_ID_LENGTH})
            JOIN ids ON starts_with(id, beginning)
        )
        SELECT beginning, list(id ORDER BY id)[:{_IDS_NAMED + 1}] FROM matches GROUP BY ALL
        """,
        {"given": valid},
    )
    matches: dict[str, list[str]] = dict(found.fetchall())
    for prefix, text in wanted.items():
        ids = matches.get(text, [])
        if not ids:
            raise no_such(kind, prefix)
        if len(ids) > 1:
            named = ", ".join(ids[:_IDS_NAMED])
            more = ", ..." if len(ids) > _IDS_NAMED else ""
            raise ConfigurationError(
                f"{prefix!r} matches several ids: {named}{more}", hint="enter more of the id"
            )
    return [matches[wanted[prefix]][0] for prefix in prefixes]


def no_such(kind: str, prefix: str) -> ConfigurationError:
    """Return the error that no row has an id with this prefix."""
    command = kind.replace(" ", "-") + "s"
    return ConfigurationError(
        f"there is no {kind} with the id {prefix!r}",
        hint=f"`tautulli-pipeline {command} list` shows the ids; the first characters are enough",
    )
