"""Layer 3: SQL that matches the events of a batch with stored plays, by key."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.warehouse.decoder import LAST_LOCAL_USER

_SAME_MOMENT: Final = "t.user_id = i.user_id AND t.started_at = i.started_at"
# SQL conditions for a row to be the play of an event, by key, in order of precedence. All but
# the guid identify a play on one server only.
SAME_PLAY: Final = {
    "event_id": "t.id = i.id::UUID AND {same_server}",
    "correlation_key": "t.correlation_key = i.correlation_key AND {same_server} "
    "AND t.restored_at IS NULL",
    "rating_key_user_started": f"t.rating_key = i.rating_key AND {_SAME_MOMENT} AND {{same_server}}"
    " AND t.restored_at IS NULL",
    "guid_user_started": f"t.guid = i.guid AND {_SAME_MOMENT} "
    f"AND (i.user_id > {LAST_LOCAL_USER} OR {{same_server}}) AND t.restored_at IS NULL",
}
# What of these a revision may have changed.
_REVISED: Final = ("rating_key_user_started", "guid_user_started")


def started_near(events: pa.Table) -> str:
    """Return SQL for whether row `t` started between the first and the last of these events.

    DuckDB skips the row groups outside of this time.
    """
    if not events:
        return "false"
    first, last = pc.min_max(events["started_at"]).as_py().values()
    return f"t.started_at BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"


def match_query(stream_id: str, condition: str, servers: Servers = ONLY_CURRENT_IDS) -> str:
    """Return SQL that finds the plays that match events of the view `incoming`.

    The columns are (position, reason, event id, source, same message), with one row for
    each key that matches. All keys contain the start, except the id of a foreign event, so
    rows of other times cannot match. Only rows `t` that meet the `condition` are read.
    """
    stream = quote_literal(stream_id)
    same_server = f"{servers.sql('t.server_id')} = i.server"
    same_message = f"t.stream_id = {stream} AND t.stream_sequence = i.sequence"

    def query(reason: str, table: str, play: str, same: str, message: str) -> str:
        return (
            f"SELECT i.position, '{reason}', {play}::VARCHAR, t.source, {message} FROM incoming i "
            f"JOIN {table} t ON {same.format(same_server=same_server)} "
            f"WHERE i.fault IS NULL AND {condition}"
        )

    plays = {
        reason: query(reason, "playback_events", "t.id", same, same_message)
        for reason, same in SAME_PLAY.items()
    }
    other_numbers = query(
        "event_id",
        "event_aliases",
        "t.play_id",
        "t.event_id = i.id::UUID AND {same_server}",
        "false",
    )
    revised = [
        query(reason, "playback_revisions", "t.id", SAME_PLAY[reason], same_message)
        for reason in _REVISED
    ]
    # Only the cache may know what a duplicate matched, so a redelivered duplicate is
    # recognized by its message.
    dropped = f"""
        SELECT i.position, a.dedupe_reason, a.matched_event_id::VARCHAR, a.matched_source, true
        FROM incoming i JOIN dedupe_audit_log a ON a.stream_sequence = i.sequence
            AND a.stream_id = {stream}
        WHERE i.fault IS NULL"""
    first, *others = plays.values()
    return " UNION ALL ".join([first, other_numbers, *others, *revised, dropped])


def foreign_ids_query(condition: str, servers: Servers = ONLY_CURRENT_IDS) -> str:
    """Return SQL for the positions of events whose id is that of a play of another server.

    Only rows `t` that meet the `condition` are read.
    """
    return f"""
        SELECT i.position FROM incoming i JOIN playback_events t ON t.id = i.id::UUID
        WHERE i.fault IS NULL AND {servers.sql("t.server_id")} <> i.server AND {condition}
    """
