"""Looking into the warehouse without writing: pages of a table, and rows by a part of their id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.warehouse.schema import SETTINGS, explained

_IDS_NAMED: Final = 3

OpenWarehouse = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Page:
    """Which rows of a list to show."""

    limit: int
    offset: int = 0


@dataclass(frozen=True)
class Listing:
    """One page of a list, and how many rows all its pages have."""

    total: int
    rows: list[dict[str, Any]]


# Where there is no table, nothing is on the list.
EMPTY: Final = Listing(0, [])


@contextmanager
def open_to_read(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse at `path`, which stays as it is.

    Raises:
        WarehouseError: another process writes it, or it is not a warehouse of this version.
    """
    config = {**SETTINGS, "temp_directory": f"{path}.tmp"}
    with duckdb.connect(config=config) as connection, explained(path, "read"):
        connection.execute(
            f"ATTACH {quote_literal(str(path))} AS warehouse (TYPE duckdb, READ_ONLY)"
        )
        connection.execute("USE warehouse")
        try:
            yield connection
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise WarehouseError(
                f"cannot read the warehouse {path}: it lacks a table or a column "
                "of this version of the pipeline",
                hint="import once to bring it up to date, or set DUCKDB_PATH to another file",
            ) from error


def fetch_dicts(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object]
) -> list[dict[str, Any]]:
    """The rows of a query by column name."""
    cursor = connection.execute(sql, dict(parameters))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_row(
    connection: duckdb.DuckDBPyConnection, table: str, columns: str, row_id: str
) -> dict[str, Any]:
    """These columns of the row of `table` that has this whole id."""
    sql = f"SELECT {columns} FROM {table} WHERE id = $id::UUID"
    (row,) = fetch_dicts(connection, sql, {"id": row_id})
    return row


def parsed(text: str) -> Any:  # noqa: ANN401 - any JSON
    """What JSON says; its text where it is nested deeper than can be taken apart."""
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
    """The newest rows of `table` first.

    Args:
        connection: an open warehouse.
        table: has the columns `created_at`, `stream_sequence`, `source_row_id` and `id`.
        columns: what to select of each row on the page.
        filters: what columns have to equal; None for anything.
        page: which part of it.
        conditions: what else has to be true.
    """
    wanted = {name: value for name, value in filters.items() if value is not None}
    equal = [f"{quote_identifier(name)} = ${name}" for name in wanted]
    where = " AND ".join([*equal, *conditions]) or "true"
    count = f"SELECT count(*) FROM {table} WHERE {where}"
    ((total,),) = connection.execute(count, wanted).fetchall()
    # The page is found by its narrow columns, and only its own rows are read whole.
    newest = "created_at DESC, stream_sequence DESC, source_row_id DESC, id"
    rows = fetch_dicts(
        connection,
        f"""
        SELECT {columns} FROM {table} WHERE rowid IN (
            SELECT rowid FROM {table} WHERE {where}
            ORDER BY {newest} LIMIT {page.limit:d} OFFSET {page.offset:d}
        ) ORDER BY {newest}
        """,
        wanted,
    )
    return Listing(total, rows)


def list_found(connection: duckdb.DuckDBPyConnection, sql: str, page: Page) -> Listing:
    """One page of what a query finds, which is run once."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {sql}")
    ((total,),) = connection.execute("SELECT count(*) FROM found").fetchall()
    rows = fetch_dicts(connection, f"FROM found LIMIT {page.limit:d} OFFSET {page.offset:d}", {})
    return Listing(total, rows)


def find_id(connection: duckdb.DuckDBPyConnection, table: str, given: str, kind: str) -> str:
    """The id of the row of `table` whose id begins with `given`.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    found, beginning = [], given.strip().lower()
    if re.fullmatch(r"[0-9a-f-]+", beginning):
        found = connection.execute(
            f"SELECT id::VARCHAR FROM {table} WHERE starts_with(id::VARCHAR, $beginning) "
            f"ORDER BY 1 LIMIT {_IDS_NAMED + 1}",
            {"beginning": beginning},
        ).fetchall()
    if not found:
        raise no_such(kind, given)
    if len(found) > 1:
        named = ", ".join(row_id for (row_id,) in found[:_IDS_NAMED])
        more = ", ..." if len(found) > _IDS_NAMED else ""
        raise ConfigurationError(
            f"{given!r} is the beginning of several ids: {named}{more}", hint="give more of the id"
        )
    return str(found[0][0])


def no_such(kind: str, given: str) -> ConfigurationError:
    """That no row has an id like that."""
    command = kind.replace(" ", "-") + "s"
    return ConfigurationError(
        f"there is no {kind} with the id {given!r}",
        hint=f"`tautulli-pipeline {command} list` shows the ids; their beginning is enough",
    )
