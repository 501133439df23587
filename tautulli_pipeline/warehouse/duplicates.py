"""List, confirm and restore the duplicates in the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import duckdb

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.warehouse.decoder import content_columns, whole_content_query
from tautulli_pipeline.warehouse.log import WriteAheadLog
from tautulli_pipeline.warehouse.reading import (
    Listing,
    Page,
    fetch_dicts,
    find_row,
    list_found,
    list_page,
    parsed,
)
from tautulli_pipeline.warehouse.transaction import transaction

KIND: Final = "duplicate"

_TABLE: Final = "dedupe_audit_log"
_DETAIL_COLUMNS: Final = """
    id::VARCHAR AS id, discarded_event_id::VARCHAR AS discarded_event_id, discarded_source,
    discarded_subject, matched_event_id::VARCHAR AS matched_event_id, matched_source,
    dedupe_layer, dedupe_reason, content_differs, status, source_row_id, import_id,
    stream_id, stream_sequence, created_at, resolved_at
"""
_LIST_COLUMNS: Final = f"""
    {_DETAIL_COLUMNS}, discarded_payload ->> '$.title' AS title,
    coalesce(discarded_payload ->> '$.friendly_name', discarded_payload ->> '$.username',
        discarded_payload ->> '$.user_id') AS user
"""
# The content of a discarded event, decoded again from its message.
_CONTENT: Final = f"""
    WITH messages AS (
        SELECT 0::BIGINT AS position, stream_sequence AS sequence, discarded_subject AS subject,
            import_id, NULL::VARCHAR AS message_id, discarded_payload::VARCHAR AS body,
            NULL::VARCHAR AS unreadable
        FROM dedupe_audit_log WHERE id = $id::UUID
    )
    {whole_content_query()}
"""
_NEAR_MATCHES: Final = """
    SELECT * REPLACE (
        first_event_id::VARCHAR AS first_event_id, second_event_id::VARCHAR AS second_event_id
    )
    FROM near_matches ORDER BY first_started_at DESC, first_event_id, second_event_id
"""
# Keys of the row itself: they differ between any two rows.
_ROW_KEYS: Final = frozenset({"session_key", "correlation_key", "source_row_id"})


def list_duplicates(
    connection: duckdb.DuckDBPyConnection, filters: Mapping[str, object], page: Page
) -> Listing:
    """Return discarded events, newest first, without their payloads; see `list_page`."""
    return list_page(connection, _TABLE, _LIST_COLUMNS, filters, page)


def list_near_matches(connection: duckdb.DuckDBPyConnection, page: Page) -> Listing:
    """Return pairs of stored plays that are likely the same play, latest first."""
    return list_found(connection, _NEAR_MATCHES, page)


def show_duplicate(connection: duckdb.DuckDBPyConnection, prefix: str) -> dict[str, Any]:
    """Return everything known about one discarded event.

    Returns:
        Its audit columns, its `payload`, `in_table`, and `differences`: by column, its value
        and the value of the matched row; None if that row is not in the table.

    Raises:
        ConfigurationError: no id starts with `prefix`, or several do.
    """
    details = _find(connection, prefix)
    payload = details.pop("discarded_payload")
    (content,) = fetch_dicts(
        connection, f"SELECT {content_columns('c')} FROM ({_CONTENT}) c", {"id": details["id"]}
    )
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


def _stored(connection: duckdb.DuckDBPyConnection, event_id: str) -> list[dict[str, Any]]:
    """Return the stored row of an event as a list of one dict, or an empty list."""
    sql = f"SELECT {content_columns('t')} FROM playback_events t WHERE id = $id::UUID"
    return fetch_dicts(connection, sql, {"id": event_id})


def confirm(
    connection: duckdb.DuckDBPyConnection, prefixes: Sequence[str], now: datetime
) -> list[tuple[str, bool]]:
    """Confirm that the events whose ids start with these prefixes are duplicates.

    Returns:
        The id of each, and whether it was not confirmed before.

    Raises:
        ConfigurationError: there is no such duplicate, or it was restored.
    """
    chosen = [_find(connection, prefix) for prefix in prefixes]
    for row in chosen:
        if row["status"] == "user_restored":
            raise ConfigurationError(
                f"cannot confirm the duplicate {row['id']}: it was restored and is in the table",
                hint="`tautulli-pipeline duplicates show` shows the details; a restored play stays",
            )
    return [(row["id"], _confirm(connection, row["id"], now)) for row in chosen]


def _confirm(connection: duckdb.DuckDBPyConnection, row_id: str, now: datetime) -> bool:
    ((changed,),) = connection.execute(
        f"UPDATE {_TABLE} SET status = 'user_confirmed', resolved_at = $now "
        "WHERE id = $id::UUID AND status <> 'user_confirmed'",
        {"now": now, "id": row_id},
    ).fetchall()
    return bool(changed)


def restore(
    connection: duckdb.DuckDBPyConnection, prefixes: Sequence[str], now: datetime
) -> list[tuple[str, bool]]:
    """Add the discarded events whose ids start with these prefixes to the table.

    Reads each added row back to verify it. Safe to repeat: an event that is already in
    the table is not added again. A restored row may share its correlation key, or its
    item, user and start, with another row, so the two unique indexes do not cover it.

    Returns:
        The id of each, and whether a row was added.

    Raises:
        ConfigurationError: there is no such duplicate, or it has the id of a stored play.
        WarehouseError: the written row does not match the event.
    """
    chosen = [_find(connection, prefix) for prefix in prefixes]
    for row in chosen:
        if row["dedupe_reason"] == "event_id":
            raise ConfigurationError(
                f"cannot restore the duplicate {row['id']}: it has the same event id as the row "
                "it matched, so it is the same play",
                hint="`tautulli-pipeline duplicates show` shows how its content differs",
            )
    log = WriteAheadLog(connection)
    return [(row["id"], _restore(connection, log, row, now)) for row in chosen]


def _find(connection: duckdb.DuckDBPyConnection, prefix: str) -> dict[str, Any]:
    """Return the audit row whose id starts with `prefix`."""
    return find_row(connection, _TABLE, f"{_DETAIL_COLUMNS}, discarded_payload", prefix, KIND)


def _restore(
    connection: duckdb.DuckDBPyConnection, log: WriteAheadLog, row: Mapping[str, Any], now: datetime
) -> bool:
    missing = not _stored(connection, row["discarded_event_id"])
    if not missing and row["status"] == "user_restored":
        return False
    log.admit(int(missing), len(row["discarded_payload"].encode()))
    with transaction(connection):
        if missing:
            _insert(connection, row["id"], now)
        connection.execute(
            f"UPDATE {_TABLE} SET status = 'user_restored', resolved_at = $now "
            "WHERE id = $id::UUID",
            {"now": now, "id": row["id"]},
        )
    return missing


def _insert(connection: duckdb.DuckDBPyConnection, row_id: str, now: datetime) -> None:
    """Add the event to the table, marked as restored, and verify the row."""
    sql = f"CREATE OR REPLACE TEMP TABLE restored AS {_CONTENT}"
    connection.execute(sql, {"id": row_id})
    connection.execute(
        """
        INSERT INTO playback_events BY NAME
        SELECT r.* EXCLUDE (position, sequence), a.stream_id, a.stream_sequence,
            $now AS created_at, $now AS restored_at
        FROM restored r, dedupe_audit_log a WHERE a.id = $id::UUID
        """,
        {"now": now, "id": row_id},
    )
    read_back = connection.execute(
        f"""
        SELECT 1 FROM restored r JOIN playback_events t ON t.id = r.id
        WHERE t.restored_at = $now AND t.payload_hash = r.payload_hash
            AND row({content_columns("t")}) IS NOT DISTINCT FROM row({content_columns("r")})
        """,
        {"now": now},
    ).fetchall()
    if len(read_back) != 1:
        raise WarehouseError(
            f"cannot restore the duplicate {row_id}: the written row does not match the event",
            hint="nothing was changed; check the disk for errors",
        )
