"""The audit of duplicates: looking at it, confirming a decision and undoing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.events.identity import quote_identifier
from tautulli_pipeline.warehouse.decoder import CONTENT_COLUMNS, whole_content_query
from tautulli_pipeline.warehouse.log import WriteAheadLog
from tautulli_pipeline.warehouse.reading import (
    Listing,
    Page,
    fetch_dicts,
    fetch_row,
    find_id,
    list_found,
    list_page,
    parsed,
)
from tautulli_pipeline.warehouse.transaction import transaction

KIND: Final = "duplicate"

_AUDIT: Final = "dedupe_audit_log"
_FACTS: Final = """
    id::VARCHAR AS id, discarded_event_id::VARCHAR AS discarded_event_id, discarded_source,
    discarded_subject, matched_event_id::VARCHAR AS matched_event_id, matched_source,
    dedupe_layer, dedupe_reason, content_differs, status, source_row_id, import_id,
    stream_id, stream_sequence, created_at, resolved_at
"""
_LISTED: Final = f"""
    {_FACTS}, discarded_payload ->> '$.title' AS title,
    coalesce(discarded_payload ->> '$.friendly_name', discarded_payload ->> '$.username',
        discarded_payload ->> '$.user_id') AS user
"""
# What a discarded event says, as the decoder reads it from its own message.
_SAID: Final = f"""
    WITH messages AS (
        SELECT 0::BIGINT AS position, stream_sequence AS sequence, discarded_subject AS subject,
            import_id, NULL::VARCHAR AS message_id, discarded_payload::VARCHAR AS body,
            NULL::VARCHAR AS unreadable
        FROM dedupe_audit_log WHERE id = $id::UUID
    )
    {whole_content_query()}
"""
_NEAR: Final = """
    SELECT * REPLACE (
        first_event_id::VARCHAR AS first_event_id, second_event_id::VARCHAR AS second_event_id
    )
    FROM near_matches ORDER BY first_started_at DESC, first_event_id, second_event_id
"""
# Keys of the row itself, which differ between any two.
_OWN: Final = frozenset({"session_key", "correlation_key", "source_row_id"})


@dataclass(frozen=True)
class AuditFilter:
    """Which duplicates to list; None for any."""

    reason: str | None = None
    layer: str | None = None
    status: str | None = None
    import_id: str | None = None


def list_duplicates(
    connection: duckdb.DuckDBPyConnection, wanted: AuditFilter, page: Page
) -> Listing:
    """Discarded events, the newest first, without their payloads."""
    filters = {
        "dedupe_reason": wanted.reason,
        "dedupe_layer": wanted.layer,
        "status": wanted.status,
        "import_id": wanted.import_id,
    }
    return list_page(connection, _AUDIT, _LISTED, filters, page)


def list_near_matches(connection: duckdb.DuckDBPyConnection, page: Page) -> Listing:
    """Pairs of stored plays that are likely one and the same, the latest first."""
    return list_found(connection, _NEAR, page)


def show_duplicate(connection: duckdb.DuckDBPyConnection, given: str) -> dict[str, Any]:
    """All that is known of one discarded event.

    Returns:
        Its columns in the audit, `payload`, whether it is `in_table`, and `differences`: by
        column, what it says and what the row it matched says; None where that is not there.

    Raises:
        ConfigurationError: no id begins with `given`, or several do.
    """
    row_id = find_id(connection, _AUDIT, given, KIND)
    facts = fetch_row(connection, _AUDIT, f"{_FACTS}, discarded_payload", row_id)
    payload = facts.pop("discarded_payload")
    (said,) = fetch_dicts(connection, f"SELECT {_columns('s')} FROM ({_SAID}) s", {"id": row_id})
    stored = _stored(connection, facts["matched_event_id"])
    differences = {
        name: {"discarded": said[name], "stored": row[name]}
        for row in stored
        for name in said
        if said[name] != row[name] and name not in _OWN
    }
    return facts | {
        "payload": parsed(payload),
        "in_table": bool(_stored(connection, facts["discarded_event_id"])),
        "differences": differences if stored else None,
    }


def _stored(connection: duckdb.DuckDBPyConnection, event_id: str) -> list[dict[str, Any]]:
    """The row of the event by column, where the table has it."""
    sql = f"SELECT {_columns('t')} FROM playback_events t WHERE id = $id::UUID"
    return fetch_dicts(connection, sql, {"id": event_id})


def confirm(
    connection: duckdb.DuckDBPyConnection, given: Sequence[str], now: datetime
) -> list[tuple[str, bool]]:
    """Note that a person finds the decisions right whose ids begin with `given`.

    Returns:
        Each one's id, and whether that is new.

    Raises:
        ConfigurationError: there is no such duplicate, or it was restored.
    """
    chosen = [_to_confirm(connection, beginning) for beginning in given]
    return [(row_id, _confirm(connection, row_id, now)) for row_id in chosen]


def _to_confirm(connection: duckdb.DuckDBPyConnection, given: str) -> str:
    row_id = find_id(connection, _AUDIT, given, KIND)
    if fetch_row(connection, _AUDIT, "status", row_id)["status"] == "user_restored":
        raise ConfigurationError(
            f"cannot confirm the duplicate {row_id}: it was restored and is in the table",
            hint="a restored play stays; `tautulli-pipeline duplicates show` tells more",
        )
    return row_id


def _confirm(connection: duckdb.DuckDBPyConnection, row_id: str, now: datetime) -> bool:
    new = fetch_row(connection, _AUDIT, "status", row_id) != {"status": "user_confirmed"}
    if new:
        _resolve(connection, row_id, "user_confirmed", now)
    return new


def restore(
    connection: duckdb.DuckDBPyConnection, given: Sequence[str], now: datetime
) -> list[tuple[str, bool]]:
    """Bring the discarded events whose ids begin with `given` into the table, and read them back.

    Safe to repeat: an event that is in the table is not brought there again. Its
    correlation key and its item, user and start may be those of another row, so it
    stands outside the two unique indexes.

    Returns:
        Each one's id, and whether a row was added.

    Raises:
        ConfigurationError: there is no such duplicate, or it is the very play that is stored.
        WarehouseError: what was written does not read back as the event.
    """
    chosen = [_to_restore(connection, beginning) for beginning in given]
    log = WriteAheadLog(connection)
    return [(row_id, _restore(connection, log, row_id, now)) for row_id in chosen]


def _to_restore(connection: duckdb.DuckDBPyConnection, given: str) -> str:
    row_id = find_id(connection, _AUDIT, given, KIND)
    reason = fetch_row(connection, _AUDIT, "dedupe_reason", row_id)
    if reason["dedupe_reason"] == "event_id":
        raise ConfigurationError(
            f"cannot restore the duplicate {row_id}: it has the event id of the row "
            "that it matched, so it is the same play",
            hint="`tautulli-pipeline duplicates show` tells where its content differs",
        )
    return row_id


def _restore(
    connection: duckdb.DuckDBPyConnection, log: WriteAheadLog, row_id: str, now: datetime
) -> bool:
    facts = fetch_row(connection, _AUDIT, f"{_FACTS}, discarded_payload", row_id)
    missing = not _stored(connection, facts["discarded_event_id"])
    if not missing and facts["status"] == "user_restored":
        return False
    log.admit(int(missing), len(facts["discarded_payload"].encode()))
    with transaction(connection):
        if missing:
            _insert(connection, row_id, now)
        _resolve(connection, row_id, "user_restored", now)
    return missing


def _insert(connection: duckdb.DuckDBPyConnection, row_id: str, now: datetime) -> None:
    """Add the event to the table, marked as restored, and see that it is there as it was."""
    said = f"CREATE OR REPLACE TEMP TABLE restored AS {_SAID}"
    connection.execute(said, {"id": row_id})
    connection.execute(
        f"""
        INSERT INTO playback_events (id, {_columns()}, import_id, stream_id,
            stream_sequence, payload_hash, created_at, restored_at)
        SELECT r.id, {_columns("r")}, r.import_id, a.stream_id, a.stream_sequence,
            r.payload_hash, $now, $now
        FROM restored r, dedupe_audit_log a WHERE a.id = $id::UUID
        """,
        {"now": now, "id": row_id},
    )
    read_back = connection.execute(
        f"""
        SELECT 1 FROM restored r JOIN playback_events t ON t.id = r.id
        WHERE t.restored_at = $now AND t.payload_hash = r.payload_hash
            AND row({_columns("t")}) IS NOT DISTINCT FROM row({_columns("r")})
        """,
        {"now": now},
    ).fetchall()
    if len(read_back) != 1:
        raise WarehouseError(
            f"cannot restore the duplicate {row_id}: what was written does not "
            "read back as the event",
            hint="nothing was changed; see that the disk is sound",
        )


def _columns(alias: str = "") -> str:
    prefix = f"{alias}." if alias else ""
    return ", ".join(f"{prefix}{quote_identifier(name)}" for name in CONTENT_COLUMNS)


def _resolve(
    connection: duckdb.DuckDBPyConnection, row_id: str, status: str, now: datetime
) -> None:
    connection.execute(
        f"UPDATE {_AUDIT} SET status = $status, resolved_at = $now WHERE id = $id::UUID",
        {"status": status, "now": now, "id": row_id},
    )
