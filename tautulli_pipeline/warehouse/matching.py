"""Layer 3: which events of a batch match a row of the table, and by which key."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.identity import quote_literal

# Whether a row is the play of an event, by each key, in the order in which the keys count.
SAME_PLAY: Final = {
    "event_id": "t.id = i.id::UUID",
    "correlation_key": "t.correlation_key = i.correlation_key AND t.restored_at IS NULL",
    "rating_key_user_started": "t.rating_key = i.rating_key AND t.user_id = i.user_id "
    "AND t.started_at = i.started_at AND t.restored_at IS NULL",
}


class TimeSpan(NamedTuple):
    """The first and the last start of a batch, in UTC; None where it has no events."""

    first: datetime | None
    last: datetime | None

    def condition(self, column: str) -> str:
        """SQL that is true of starts within the span; row groups of other times are passed over."""
        if self.first is None or self.last is None:
            return "false"
        return f"{column} BETWEEN TIMESTAMP '{self.first}' AND TIMESTAMP '{self.last}'"


def time_span(events: pa.Table) -> TimeSpan:
    """The span of `started_at`."""
    ends = pc.min_max(events["started_at"])
    return TimeSpan(ends["min"].as_py(), ends["max"].as_py())


def match_query(stream_id: str, span: TimeSpan | None) -> str:
    """SQL that finds the rows which events of the view `incoming` match.

    Gives (position, reason, event id, source, same message); several rows where several
    keys match. All keys but a foreign event's id hold the start, so rows of other times
    cannot match: with a `span`, only rows that started within it are looked at.
    """
    stream = quote_literal(stream_id)
    nearby = f"AND {span.condition('t.started_at')}" if span else ""
    same_message = f"t.stream_id = {stream} AND t.stream_sequence = i.sequence"
    queries = [
        f"SELECT i.position, '{reason}', t.id, t.source, {same_message} FROM incoming i "
        f"JOIN playback_events t ON {same} WHERE i.fault IS NULL {nearby}"
        for reason, same in SAME_PLAY.items()
    ]
    # Its match may be known to the cache alone, so a duplicate that comes again is told
    # by its message.
    dropped = f"""
        SELECT i.position, a.dedupe_reason, a.matched_event_id, a.matched_source, true
        FROM incoming i JOIN dedupe_audit_log a ON a.stream_sequence = i.sequence
            AND a.stream_id = {stream}
        WHERE i.fault IS NULL"""
    return " UNION ALL ".join([*queries, dropped])
