"""List, confirm and restore the duplicates in the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import duckdb

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.warehouse.decoder import (
    CONTENT_COLUMNS,
    content_columns,
    whole_content_query,
)
from tautulli_pipeline.warehouse.log import WriteAheadLog
from tautulli_pipeline.warehouse.reading import (
    Listing,
    Page,
    fetch_dicts,
    find_ids,
    find_row,
    list_found,
    list_ids,
    list_page,
    parsed,
)
from tautulli_pipeline.warehouse.schema import write_transaction
from tautulli_pipeline.warehouse.summaries import play_of_event

KIND: Final = "duplicate"
NO_FILTERS: Final[Mapping[str, object]] = {}

_TABLE: Final = "dedupe_audit_log"
_COLUMNS: Final = f"""
    id::VARCHAR AS id, {play_of_event("discarded_payload", "discarded_subject")},
    discarded_event_id::VARCHAR AS discarded_event_id, discarded_source,
    discarded_subject, matched_event_id::VARCHAR AS matched_event_id, matched_source,
    dedupe_layer, dedupe_reason, content_differs, status, source_row_id, import_id,
    stream_id, stream_sequence, created_at, resolved_at
"""
# Duplicates to restore together: decoding needs many times the memory of their payloads.
_PORTION_ROWS: Final = 1000
_PORTION_BYTES: Final = 4 * 2**20
_CHOSEN: Final = f"""
    CREATE OR REPLACE TEMP TABLE chosen AS
    SELECT *, row_number() OVER (ORDER BY stream_sequence, id) - 1 AS position,
        NOT EXISTS (FROM playback_events e WHERE e.id = discarded_event_id) AND row_number() OVER (
            PARTITION BY discarded_event_id ORDER BY stream_sequence, id
        ) = 1 AS missing
    FROM {_TABLE} WHERE id IN (SELECT unnest($ids::VARCHAR[])::UUID)
"""
# The content of discarded events, decoded again from their messages.
_CONTENT: Final = f"""
    WITH messages AS (
        SELECT position, stream_sequence AS sequence, discarded_subject AS subject, import_id,
            NULL::VARCHAR AS message_id, NULL::VARCHAR AS content,
            discarded_payload::VARCHAR AS body,
            NULL::VARCHAR AS refusal
        FROM chosen
    )
    {whole_content_query()}
"""
_INSERT: Final = """
    INSERT INTO playback_events BY NAME
    SELECT r.* EXCLUDE (position, sequence), stream_id, stream_sequence,
        $now AS created_at, $now AS restored_at
    FROM restored r JOIN chosen USING (position)
"""
_FORGET_ALIASES: Final = """
    DELETE FROM event_aliases t USING chosen c
    WHERE t.event_id = c.discarded_event_id AND t.play_id = c.matched_event_id
"""
_FORGET_REVISIONS: Final = """
    DELETE FROM playback_revisions t USING chosen c
    WHERE t.event_id = c.discarded_event_id AND t.id = c.matched_event_id
"""
_UNVERIFIED: Final = f"""
    SELECT c.id::VARCHAR FROM chosen c LEFT JOIN (
        SELECT position FROM restored r JOIN playback_events t ON t.id = r.id
        WHERE t.restored_at = $now AND t.payload_hash = r.payload_hash
            AND row({content_columns("t")}) IS NOT DISTINCT FROM row({content_columns("r")})
    ) verified USING (position)
    WHERE c.missing AND verified.position IS NULL LIMIT 1
"""
# Keys of the row itself differ between any two rows, and `reference_id` stands for the start of
# the group.
_ROW_KEYS: Final = frozenset(
    {"session_key", "correlation_key", "source_row_id", "group_started_at"}
)


def _names_where(differs: str) -> str:
    """Return SQL for the names of the columns for which the condition over `{}` is true."""
    names = [name for name in CONTENT_COLUMNS if name not in _ROW_KEYS]
    cases = ", ".join(
        f"CASE WHEN {differs.format(quote_identifier(name))} THEN {quote_literal(name)} END"
        for name in names
    )
    return f"list_filter([{cases}], lambda name: name IS NOT NULL)"


_DIFFERENCES: Final = f"""
    SELECT chosen.id::VARCHAR, {_names_where("c.{0} IS DISTINCT FROM t.{0}")}
    FROM chosen JOIN ({_CONTENT}) c USING (position)
    JOIN playback_events t ON t.id = chosen.matched_event_id
"""
_NEAR_MATCHES: Final = f"""
    SELECT n.* REPLACE (
            first_event_id::VARCHAR AS first_event_id, second_event_id::VARCHAR AS second_event_id
        ),
        a.player AS first_player, b.player AS second_player,
        {_names_where("a.{0} <> b.{0}")} AS differs_in
    FROM near_matches n
    JOIN playback_events a ON a.id = n.first_event_id
    JOIN playback_events b ON b.id = n.second_event_id
    ORDER BY n.first_started_at DESC, n.first_event_id, n.second_event_id
"""


def list_duplicates(
    connection: duckdb.DuckDBPyConnection, filters: Mapping[str, object], page: Page
) -> Listing:
    """Return discarded events, newest first, without their payloads; see `list_page`.

    `differs_in` names the columns in which an event differs from the row it matched, without
    keys; None if that row is not in the table.
    """
    listing = list_page(connection, _TABLE, _COLUMNS, filters, page)
    differences = _differences(connection, [row["id"] for row in listing.rows])
    for row in listing.rows:
        row["differs_in"] = differences.get(row["id"])
    return listing


def _differences(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the differing columns of these duplicates whose match is stored."""
    found: dict[str, list[str]] = {}
    for portion in _portions(connection, ids):
        connection.execute(_CHOSEN, {"ids": list(portion)})
        found.update(connection.execute(_DIFFERENCES).fetchall())
    return found


def list_near_matches(connection: duckdb.DuckDBPyConnection, page: Page) -> Listing:
    """Return pairs of stored plays that are likely the same play, latest first."""
    return list_found(connection, _NEAR_MATCHES, page)


def show_duplicate(connection: duckdb.DuckDBPyConnection, prefix: str) -> dict[str, Any]:
    """Return everything known about one discarded event.

    Returns:
        Its play, its audit columns, its `payload`, `in_table`, and `differences`: by column,
        its value and the value of the matched row; None if that row is not in the table.

    Raises:
        ConfigurationError: no id starts with `prefix`, or several do.
    """
    columns = f"{_COLUMNS}, discarded_payload"
    details = find_row(connection, _TABLE, columns, prefix, KIND)
    payload = details.pop("discarded_payload")
    connection.execute(_CHOSEN, {"ids": [details["id"]]})
    (content,) = fetch_dicts(connection, f"SELECT {content_columns('c')} FROM ({_CONTENT}) c", {})
    stored = _stored(connection, details["matched_event_id"])
    differences = {
        name: {"discarded": content[name], "stored": row[name]}
        for row in stored
        for name in content
        if content[name] != row[name] and name not in _ROW_KEYS
    }
    return details | {
        "payload": parsed(payload),
        "in_table": bool(_stored(connection, details["discarded_event_id"])),
        "differences": differences if stored else None,
    }


def select(
    connection: duckdb.DuckDBPyConnection, prefixes: Sequence[str], filters: Mapping[str, object]
) -> list[str]:
    """Return the ids that start with these prefixes; without prefixes, those that `filters` list.

    Raises:
        ConfigurationError: no id starts with a prefix, or several do.
    """
    if prefixes:
        return find_ids(connection, _TABLE, prefixes, KIND)
    return list_ids(connection, _TABLE, filters, [])


def confirm(
    connection: duckdb.DuckDBPyConnection,
    prefixes: Sequence[str],
    now: datetime,
    filters: Mapping[str, object] = NO_FILTERS,
) -> list[tuple[str, bool]]:
    """Confirm that these events are duplicates; see `select`.

    Without prefixes, restored ones are passed over.

    Returns:
        The id of each, and whether it was not confirmed before.

    Raises:
        ConfigurationError: there is no such duplicate, or it was restored.
    """
    ids = _allowed(
        connection,
        select(connection, prefixes, filters),
        "status <> 'user_restored'",
        "confirm the duplicate {}: it was restored and is in the table",
        hint="`tautulli-pipeline duplicates show` shows the details; a restored play stays",
        strict=bool(prefixes),
    )
    unconfirmed = "id IN (SELECT unnest($ids::VARCHAR[])::UUID) AND status <> 'user_confirmed'"
    changed = connection.execute(
        f"SELECT id::VARCHAR FROM {_TABLE} WHERE {unconfirmed}", {"ids": ids}
    ).fetchall()
    # RETURNING would read and write every column of these rows, with their payloads.
    connection.execute(
        f"UPDATE {_TABLE} SET status = 'user_confirmed', resolved_at = $now WHERE {unconfirmed}",
        {"now": now, "ids": ids},
    )
    return _marked(ids, {row_id for (row_id,) in changed})


def restore(
    connection: duckdb.DuckDBPyConnection,
    prefixes: Sequence[str],
    now: datetime,
    filters: Mapping[str, object] = NO_FILTERS,
) -> list[tuple[str, bool]]:
    """Add these discarded events to the table; see `select`.

    Reads each added row back to verify it. Safe to repeat: an event that is already in
    the table is not added again. A restored row may share its correlation key, or its
    item, user and start, with another row, so the two unique indexes do not cover it.

    Without prefixes, duplicates with the id of a stored play are passed over.

    Returns:
        The id of each, and whether a row was added.

    Raises:
        ConfigurationError: there is no such duplicate, or it has the id of a stored play.
        WarehouseError: a written row does not match its event.
    """
    ids = _allowed(
        connection,
        select(connection, prefixes, filters),
        "dedupe_reason <> 'event_id'",
        "restore the duplicate {}: it has the same event id as the row it matched, "
        "so it is the same play",
        hint="`tautulli-pipeline duplicates show` shows how its content differs",
        strict=bool(prefixes),
    )
    log = WriteAheadLog(connection)
    added: set[str] = set()
    for sizes in _portions(connection, ids):
        added |= _restore(connection, log, sizes, now)
    return _marked(ids, added)


def _marked(ids: Sequence[str], changed: set[str]) -> list[tuple[str, bool]]:
    """Return each id with whether it was changed; one that is named twice is changed once."""
    first = {row_id: place for place, row_id in reversed([*enumerate(ids)])}
    return [
        (row_id, row_id in changed and first[row_id] == place) for place, row_id in enumerate(ids)
    ]


def _allowed(
    connection: duckdb.DuckDBPyConnection,
    ids: Sequence[str],
    condition: str,
    refusal: str,
    *,
    hint: str,
    strict: bool,
) -> list[str]:
    """Return the ids of rows that meet the condition; if `strict`, refuse the others."""
    found = connection.execute(
        f"SELECT id::VARCHAR FROM {_TABLE} "
        f"WHERE id IN (SELECT unnest($ids::VARCHAR[])::UUID) AND {condition}",
        {"ids": list(ids)},
    ).fetchall()
    met = {row_id for (row_id,) in found}
    for row_id in ids:
        if strict and row_id not in met:
            raise ConfigurationError(f"cannot {refusal.format(row_id)}", hint=hint)
    return [row_id for row_id in ids if row_id in met]


def _portions(
    connection: duckdb.DuckDBPyConnection, ids: Sequence[str]
) -> Iterator[dict[str, int]]:
    """Yield the ids in portions, with the size of the payload of each in bytes."""
    found = connection.execute(
        f"SELECT id::VARCHAR, strlen(discarded_payload::VARCHAR) FROM {_TABLE} "
        "WHERE id IN (SELECT unnest($ids::VARCHAR[])::UUID)",
        {"ids": list(ids)},
    )
    sizes: dict[str, int] = dict(found.fetchall())
    portion: dict[str, int] = {}
    for row_id in dict.fromkeys(ids):
        is_full = sum(portion.values()) + sizes[row_id] > _PORTION_BYTES
        if portion and (len(portion) == _PORTION_ROWS or is_full):
            yield portion
            portion = {}
        portion[row_id] = sizes[row_id]
    if portion:
        yield portion


def _restore(
    connection: duckdb.DuckDBPyConnection,
    log: WriteAheadLog,
    sizes: Mapping[str, int],
    now: datetime,
) -> set[str]:
    """Restore a portion; return the ids for which a row was added."""
    connection.execute(_CHOSEN, {"ids": list(sizes)})
    missing = connection.execute("SELECT id::VARCHAR FROM chosen WHERE missing").fetchall()
    # A play that was restored before keeps the time of that.
    connection.execute("DELETE FROM chosen WHERE NOT missing AND status = 'user_restored'")
    log.admit(len(missing), sum(sizes.values()), max(sizes.values()))
    with write_transaction(connection):
        connection.execute(
            f"UPDATE {_TABLE} SET status = 'user_restored', resolved_at = $now "
            "WHERE id IN (SELECT id FROM chosen)",
            {"now": now},
        )
        connection.execute("DELETE FROM chosen WHERE NOT missing")
        # It is a play of its own now, and says nothing about the other one any more.
        connection.execute(_FORGET_ALIASES)
        connection.execute(_FORGET_REVISIONS)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE restored AS {_CONTENT}")
        connection.execute(_INSERT, {"now": now})
        unverified = connection.execute(_UNVERIFIED, {"now": now}).fetchone()
        if unverified:
            raise WarehouseError(
                f"cannot restore the duplicate {unverified[0]}: "
                "the written row does not match the event",
                hint="nothing was changed; check the disk for errors",
            )
    connection.execute("DROP TABLE restored")  # a row group of it takes megabytes
    return {row_id for (row_id,) in missing}


def _stored(connection: duckdb.DuckDBPyConnection, event_id: str) -> list[dict[str, Any]]:
    """Return the stored row of an event as a list of one dict, or an empty list."""
    sql = f"SELECT {content_columns('t')} FROM playback_events t WHERE id = $id::UUID"
    return fetch_dicts(connection, sql, {"id": event_id})
