"""Layer 3: SQL that matches the events of a batch with stored plays, by key."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.warehouse.decoder import LAST_LOCAL_USER

# The reasons why an event is a stored play, in order of precedence. All but the guid identify a
# play on one server only.
SAME_PLAY: Final = (
    *("event_id", "correlation_key", "rating_key_user_started", "guid_user_started"),
)
_PRECEDENCE: Final = {reason: place for place, reason in enumerate(SAME_PLAY)}
# The reasons that need the same user and start; a revision may have changed the rest. Live TV has
# the guid of what is shown, so a play of it is never the same by guid.
_AT_SAME_MOMENT: Final = f"""
    unnest([
        CASE WHEN t.rating_key = i.rating_key AND {{same_server}}
            THEN 'rating_key_user_started' END,
        CASE WHEN t.guid = i.guid AND t.live IS DISTINCT FROM 1
            AND (i.user_id > {LAST_LOCAL_USER} OR {{same_server}}) THEN 'guid_user_started' END
    ])
"""


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
    each key that matches, in no order. All keys contain the start, except the id of a foreign
    event, so rows of other times cannot match. Only rows `t` that meet the `condition` are read.
    """
    stream = quote_literal(stream_id)
    same_server = f"{servers.sql('t.server_id')} = i.server"
    same_message = f"t.stream_id = {stream} AND t.stream_sequence = i.sequence"
    at_same_moment = _AT_SAME_MOMENT.format(same_server=same_server)

    def plays(table: str, reason: str, same: str, play: str = "t.id") -> str:
        message = same_message if play == "t.id" else "false"
        return (
            f"SELECT i.position, {reason} AS reason, {play}::VARCHAR AS play_id, t.source, "
            f"{message} AS same_message FROM events i JOIN {table} t ON {same} WHERE {condition}"
        )

    same_id, not_restored = f"= i.id AND {same_server}", "AND t.restored_at IS NULL"
    same_key = f"t.correlation_key = i.correlation_key AND {same_server} {not_restored}"
    same_moment = f"t.user_id = i.user_id AND t.started_at = i.started_at {not_restored}"
    # Only the cache may know what a duplicate matched, so a redelivered duplicate is
    # recognized by its message.
    dropped = f"""
        SELECT i.position, a.dedupe_reason, a.matched_event_id::VARCHAR, a.matched_source, true
        FROM events i JOIN dedupe_audit_log a ON a.stream_sequence = i.sequence
            AND a.stream_id = {stream}
    """
    queries = (
        plays("playback_events", "'event_id'", f"t.id {same_id}"),
        plays("event_aliases", "'event_id'", f"t.event_id {same_id}", "t.play_id"),
        plays("playback_events", "'correlation_key'", same_key),
        plays("playback_events", at_same_moment, same_moment),
        plays("playback_revisions", at_same_moment, same_moment),
        dropped,
    )
    # The view is a table of Arrow, which is slow to scan again for each key.
    return f"""
        WITH events AS MATERIALIZED (
            SELECT position, sequence, id::UUID AS id, server, correlation_key, rating_key, guid,
                user_id, started_at
            FROM incoming WHERE fault IS NULL
        )
        SELECT * FROM ({" UNION ALL ".join(queries)}) WHERE reason IS NOT NULL
    """


def precedence(match: tuple[Any, ...]) -> int:
    """Return the place of a row of `match_query` by its reason; the lowest one counts."""
    return _PRECEDENCE.get(match[1], len(_PRECEDENCE))


def foreign_ids_query(condition: str, servers: Servers = ONLY_CURRENT_IDS) -> str:
    """Return SQL for the positions of events whose id is that of a play of another server.

    Only rows `t` that meet the `condition` are read.
    """
    return f"""
        SELECT i.position FROM incoming i JOIN playback_events t ON t.id = i.id::UUID
        WHERE i.fault IS NULL AND {servers.sql("t.server_id")} <> i.server AND {condition}
    """
