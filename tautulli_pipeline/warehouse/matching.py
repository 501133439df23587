"""Layer 3: SQL that matches the events of a batch with stored rows, by key."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.identity import quote_literal

# SQL conditions for a row to be the play of an event, by key, in order of precedence.
SAME_PLAY: Final = {
    "event_id": "t.id = i.id::UUID",
    "correlation_key": "t.correlation_key = i.correlation_key AND t.restored_at IS NULL",
    "rating_key_user_started": "t.rating_key = i.rating_key AND t.user_id = i.user_id "
    "AND t.started_at = i.started_at AND t.restored_at IS NULL",
}


def started_near(events: pa.Table) -> str:
    """Return SQL for whether row `t` started between the first and the last of these events.

    DuckDB skips the row groups outside of this time.
    """
    if not events:
        return "false"
    first, last = pc.min_max(events["started_at"]).as_py().values()
    return f"t.started_at BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"


def match_query(stream_id: str, condition: str) -> str:
    """Return SQL that finds the rows that match events of the view `incoming`.

    The columns are (position, reason, event id, source, same message), with one row for
    each key that matches. All keys contain the start, except the id of a foreign event, so
    rows of other times cannot match. Only rows `t` that meet the `condition` are read.
    """
    stream = quote_literal(stream_id)
    same_message = f"t.stream_id = {stream} AND t.stream_sequence = i.sequence"
    queries = [
        f"SELECT i.position, '{reason}', t.id::VARCHAR, t.source, {same_message} FROM incoming i "
        f"JOIN playback_events t ON {same} WHERE i.fault IS NULL AND {condition}"
        for reason, same in SAME_PLAY.items()
    ]
    # Only the cache may know what a duplicate matched, so a redelivered duplicate is
    # recognized by its message.
    dropped = f"""
        SELECT i.position, a.dedupe_reason, a.matched_event_id::VARCHAR, a.matched_source, true
        FROM incoming i JOIN dedupe_audit_log a ON a.stream_sequence = i.sequence
            AND a.stream_id = {stream}
        WHERE i.fault IS NULL"""
    return " UNION ALL ".join([*queries, dropped])
