"""List dead letters, and recognize the play of a raw record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.columns import HISTORY
from tautulli_pipeline.warehouse.reading import (
    Listing,
    Page,
    find_row,
    list_ids,
    list_page,
    parsed,
)
from tautulli_pipeline.warehouse.summaries import play_of_record

KIND: Final = "dead letter"
TABLE: Final = "dead_letters"

_COLUMNS: Final = f"""
    id::VARCHAR AS id, {play_of_record("record", "origin")}, reason, origin, source_row_id,
    server_id, import_id, event_id AS message_id, stream_id, stream_sequence, created_at,
    replayed_at, closed_at, closed_by, closed_event_id::VARCHAR AS closed_event_id
"""
_STATES: Final = {"open": "closed_at IS NULL", "closed": "closed_at IS NOT NULL", "all": "true"}


@dataclass(frozen=True)
class Letter:
    """One dead letter, with what a replay needs.

    Attributes:
        record: the raw record as JSON.
    """

    id: str
    origin: str
    reason: str
    record: str
    server_id: str | None
    source_row_id: int | None
    message_id: str | None
    stream_id: str | None
    stream_sequence: int | None


def open_letters(connection: duckdb.DuckDBPyConnection, ids: Iterable[str]) -> Iterator[Letter]:
    """Yield the letters with these full ids that are still open.

    One by one: a query for several would read the records of their neighbours as well.
    """
    for letter_id in dict.fromkeys(ids):
        found = connection.execute(
            f"""
            SELECT id::VARCHAR, origin, reason, record::VARCHAR, server_id, source_row_id,
                event_id, stream_id, stream_sequence
            FROM {TABLE} WHERE id = $id::UUID AND closed_at IS NULL
            """,
            {"id": letter_id},
        ).fetchone()
        if found is not None:
            yield Letter(*found)


def open_origins(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the origins of all open letters by id, ordered by source row."""
    found = connection.execute(
        f"SELECT id::VARCHAR, origin FROM {TABLE} WHERE closed_at IS NULL "
        "ORDER BY source_row_id, created_at, id"
    )
    return dict(found.fetchall())


def open_ids_of_servers(
    connection: duckdb.DuckDBPyConnection, server_ids: Sequence[str]
) -> set[str]:
    """Return the ids of the open letters of rows of these servers."""
    found = connection.execute(
        f"SELECT id::VARCHAR FROM {TABLE} WHERE closed_at IS NULL AND origin = ? "
        "AND server_id IN (SELECT unnest(?::VARCHAR[]))",
        [HISTORY, list(server_ids)],
    )
    return {letter_id for (letter_id,) in found.fetchall()}


def list_letters(
    connection: duckdb.DuckDBPyConnection,
    filters: Mapping[str, object],
    page: Page,
    *,
    state: str,
    reason: str | None,
) -> Listing:
    """Return dead letters, newest first, without their records; see `list_page`.

    Their state is `state` (open, closed or all), and their reason starts with `reason`.
    """
    conditions = _conditions(state, reason)
    return list_page(connection, TABLE, _COLUMNS, filters, page, conditions=conditions)


def open_ids(
    connection: duckdb.DuckDBPyConnection, filters: Mapping[str, object], *, reason: str | None
) -> list[str]:
    """Return the ids of the open letters that `list_letters` lists."""
    return list_ids(connection, TABLE, filters, _conditions("open", reason))


def _conditions(state: str, reason: str | None) -> list[str]:
    if reason is None:
        return [_STATES[state]]
    return [_STATES[state], f"starts_with(reason, {identity.quote_literal(reason)})"]


def show_letter(connection: duckdb.DuckDBPyConnection, prefix: str) -> dict[str, Any]:
    """Return one dead letter with its play and its raw record.

    Raises:
        ConfigurationError: no id starts with `prefix`, or several do.
    """
    details = find_row(connection, TABLE, f"{_COLUMNS}, record", prefix, KIND)
    return details | {"record": parsed(details["record"])}


def letter_uuid(server_id: str, row_id: str, record: str) -> str:
    """Return SQL for the letter id of a rejected row, derived from its content."""
    name = f"concat_ws(':', '{HISTORY}', {server_id}, {row_id}, sha256({record}))"
    return f"CAST({identity.uuid_of_name(name)} AS UUID)"


def facts(record: str) -> str:
    """Return SQL that extracts the fields that identify the play of a raw JSON record."""
    paths = ", ".join(f"'$.{HISTORY}.{name}'" for name in _IDENTIFYING)
    return f"json_extract_string({record}, [{paths}])"


def same_play(one: str, other: str) -> str:
    """Return SQL for whether two rows with one id are the same play, over lists of `facts`.

    The row id is not enough: Tautulli reuses ids after a database was overwritten. A value
    that is missing or unusable in a record may have been fixed since, so it is ignored. If
    only the start or only the user can be compared, item and player must not differ either.
    """

    def equal(index: int, usable: Callable[[str], str]) -> str:
        first, second = (usable(f"nullif({side}[{index}], '')") for side in (one, other))
        return f"({first} = {second})"

    start, user = equal(1, _usable_start), equal(2, _usable_user)
    item, player = equal(3, str), equal(4, str)
    return f"""(
        coalesce({start}, true) AND coalesce({user}, true)
        AND (coalesce({start} AND {user}, false)
            OR (coalesce({start}, {user}, false)
                AND coalesce({item}, true) AND coalesce({player}, true)))
    )"""


_IDENTIFYING: Final = ("started", "user_id", "rating_key", "machine_id")


def _usable_start(cell: str) -> str:
    first, last = identity.FIRST_START_SECONDS, identity.LAST_START_SECONDS
    seconds = f"nullif(TRY_CAST({cell} AS BIGINT), 0)"
    return f"(CASE WHEN {seconds} BETWEEN {first} AND {last} THEN {seconds} END)"


def _usable_user(cell: str) -> str:
    return f"TRY_CAST({cell} AS INTEGER)"
