"""One batch of messages into the warehouse, in one transaction.

What makes a replay safe: a row carries the stream sequence of its message, audit rows
and dead letters are named after it, so a redelivered message changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.warehouse.cache import BatchKeys
from tautulli_pipeline.warehouse.decoder import (
    CONTENT_COLUMNS,
    OWN_SUBJECTS,
    content_query,
    extra_query,
    keys_query,
)
from tautulli_pipeline.warehouse.dedup import Deduplicator, Duplicate, Stored, Verdict
from tautulli_pipeline.warehouse.log import WriteAheadLog

MESSAGES: Final = pa.schema(
    [
        ("sequence", pa.int64()),
        ("subject", pa.string()),
        ("import_id", pa.string()),
        ("message_id", pa.string()),
        ("body", pa.binary()),
    ]
)

_DISCARDED: Final = pa.schema(
    [
        ("position", pa.int64()),
        ("layer", pa.string()),
        ("reason", pa.string()),
        ("matched_event_id", pa.string()),
        ("matched_source", pa.string()),
    ]
)


@dataclass(frozen=True)
class Written:
    """What one batch came to; redelivered messages count nowhere but in `messages`."""

    messages: int = 0
    inserted: int = 0
    duplicates_cache: int = 0
    duplicates_database: int = 0
    dead_letters: int = 0


def utc_now() -> datetime:
    """The time now, in UTC, without zone, as the warehouse keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class Writer:
    """Writes batches of one stream; the only writer of the warehouse."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        deduplicator: Deduplicator,
        stream_id: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connection = connection
        self._deduplicator = deduplicator
        self._stream_id = stream_id
        self._clock = clock
        self._decode = keys_query()
        self._log = WriteAheadLog(connection)

    def write(self, messages: pa.Table) -> Written:
        """Write all of `messages` (columns of `MESSAGES`) or nothing.

        Rows, audit rows, dead letters and the position in the stream are committed
        together; the messages may be acked once this returns.
        """
        try:
            return self._write(messages, near_in_time=True)
        except duckdb.ConstraintException:
            # A key that equals one far away in time: look through the whole table.
            return self._write(messages, near_in_time=False)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    @contextmanager
    def _forgetting_what_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._deduplicator.forget()
            raise

    def _write(self, messages: pa.Table, *, near_in_time: bool) -> Written:
        now = self._clock()
        with self._view("messages", _numbered(messages)), self._forgetting_what_fails():
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {self._decode}")
            keys, positions = self._keys()
            stored = self._stored(near_in_time=near_in_time)
            verdicts = self._deduplicator.judge(
                keys, {i: stored[p] for i, p in enumerate(positions) if p in stored}
            )
            duplicates = self._discard({positions[i]: v for i, v in verdicts.items()})
            all_new = not verdicts and len(positions) == messages.num_rows
            self._log.admit(len(positions) - len(verdicts))
            with self._transaction():
                inserted = self._insert_events(now, all_new=all_new)
                if duplicates:
                    self._insert_audit(now)
                dead = 0 if len(positions) == messages.num_rows else self._insert_dead_letters(now)
                self._advance(messages, now)
        layers = [duplicate.layer for duplicate in duplicates]
        return Written(
            messages.num_rows, inserted, layers.count("cache"), layers.count("database"), dead
        )

    def _keys(self) -> tuple[BatchKeys, list[int]]:
        columns = self._connection.execute(
            "SELECT id::VARCHAR, correlation_key, session, cross_source_key, play, source, "
            "sequence, position FROM incoming WHERE fault IS NULL ORDER BY position"
        ).to_arrow_table()
        lists = [column.to_pylist() for column in columns.columns]
        return BatchKeys(*lists[:7]), lists[7]

    def _stored(self, *, near_in_time: bool) -> dict[int, Stored]:
        """By position, the row of the table that an event of the batch matches."""
        found = self._connection.execute(self._match_query(near_in_time)).fetchall()
        stored: dict[int, Stored] = {}
        for position, reason, event_id, source, same_message in found:
            if position not in stored or same_message:
                stored[position] = Stored(reason, str(event_id), source, same_message)
        return stored

    def _match_query(self, near_in_time: bool) -> str:
        # All keys but a foreign event's id hold the start, so rows of other times
        # cannot match; their row groups are passed over.
        nearby = ""
        if near_in_time:
            first, last = self._time_span()
            if first is None or last is None:
                nearby = "AND false"
            else:
                nearby = f"AND t.started_at BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"
        same = f"t.stream_id = {quote_literal(self._stream_id)} AND t.stream_sequence = i.sequence"
        select = f"SELECT i.position, '{{}}', t.id, t.source, {same} FROM incoming i"
        matches = {
            "event_id": "t.id = i.id",
            "correlation_key": "t.correlation_key = i.correlation_key AND t.restored_at IS NULL",
            "rating_key_user_started": "t.rating_key = i.rating_key AND t.user_id = i.user_id "
            "AND t.started_at = i.started_at AND t.restored_at IS NULL",
        }
        queries = [
            f"{select.format(reason)} JOIN playback_events t ON {on} WHERE i.fault IS NULL {nearby}"
            for reason, on in matches.items()
        ]
        # Its match may be known to the cache alone, so a duplicate that comes again is
        # told by its message.
        dropped = f"""
            SELECT i.position, a.dedupe_reason, a.matched_event_id, a.matched_source, true
            FROM incoming i JOIN dedupe_audit_log a ON a.stream_sequence = i.sequence
                AND a.stream_id = {quote_literal(self._stream_id)}
            WHERE i.fault IS NULL"""
        return " UNION ALL ".join([*queries, dropped])

    def _time_span(self) -> tuple[datetime | None, datetime | None]:
        row = self._connection.execute(
            "SELECT min(started_at), max(started_at) FROM incoming WHERE fault IS NULL"
        ).fetchone()
        assert row is not None
        return row[0], row[1]

    def _discard(self, verdicts: dict[int, Verdict]) -> list[Duplicate]:
        duplicates = {p: v for p, v in verdicts.items() if isinstance(v, Duplicate)}
        rows = [
            (
                position,
                getattr(verdict, "layer", None),
                getattr(verdict, "reason", None),
                getattr(verdict, "matched_event_id", None),
                getattr(verdict, "matched_source", None),
            )
            for position, verdict in verdicts.items()
        ]
        table = pa.Table.from_arrays(
            [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(_DISCARDED)],
            schema=_DISCARDED,
        )
        with self._view("verdicts", table):
            self._connection.execute("CREATE OR REPLACE TEMP TABLE discarded AS FROM verdicts")
        return list(duplicates.values())

    def _insert_events(self, now: datetime, *, all_new: bool) -> int:
        kept = "incoming WHERE fault IS NULL AND position NOT IN (SELECT position FROM discarded)"
        wanted = "" if all_new else f"WHERE position IN (SELECT position FROM {kept})"
        names = ", ".join(quote_identifier(name) for name in CONTENT_COLUMNS)
        row = self._connection.execute(
            f"""
            INSERT INTO playback_events
                (id, {names}, import_id, stream_id, stream_sequence, created_at)
            SELECT id, {names}, import_id, ?, sequence, ?
            FROM ({self._whole_content()}) {wanted}
            """,
            [self._stream_id, now],
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _whole_content(self) -> str:
        """What `content_query` gives, with what only other producers' events can hold more."""
        foreign = self._connection.execute(
            f"SELECT 1 FROM incoming WHERE subject NOT LIKE '{OWN_SUBJECTS}' LIMIT 1"
        ).fetchone()
        if not foreign:
            return content_query()
        return f"""
            SELECT known.* REPLACE (coalesce(more.extra, known.extra) AS extra)
            FROM ({content_query()}) known
            LEFT JOIN ({extra_query()}) more USING (position)
        """

    def _insert_audit(self, now: datetime) -> None:
        content = ", ".join(f"{{0}}.{quote_identifier(name)}" for name in CONTENT_COLUMNS)
        self._connection.execute(
            f"""
            INSERT INTO dedupe_audit_log (id, discarded_event_id, discarded_payload,
                discarded_source, matched_event_id, matched_source, dedupe_layer, dedupe_reason,
                content_differs, source_row_id, import_id, stream_id, stream_sequence, created_at)
            SELECT {self._message_uuid("i.sequence")}, i.id, m.body, i.source,
                d.matched_event_id::UUID, d.matched_source, d.layer, d.reason,
                row({content.format("c")}) IS DISTINCT FROM row({content.format("t")}),
                i.source_row_id, i.import_id, $stream, i.sequence, $now
            FROM discarded d JOIN incoming i USING (position) JOIN messages m USING (position)
                JOIN ({self._whole_content()}) c USING (position)
                LEFT JOIN playback_events t ON t.id = d.matched_event_id::UUID
            WHERE d.layer IS NOT NULL
            ON CONFLICT DO NOTHING
            """,
            {"stream": self._stream_id, "now": now},
        )

    def _insert_dead_letters(self, now: datetime) -> int:
        row = self._connection.execute(
            f"""
            INSERT INTO dead_letters (id, reason, origin, record, event_id, source_row_id,
                import_id, stream_id, stream_sequence, created_at)
            SELECT {self._message_uuid("i.sequence")}, fault, i.subject, CASE
                    WHEN json_valid(m.body) THEN m.body
                    ELSE to_json(coalesce(m.body, m.unreadable)) END,
                i.message_id, i.source_row_id, i.import_id, $stream, i.sequence, $now
            FROM incoming i JOIN messages m USING (position) WHERE fault IS NOT NULL
            ON CONFLICT DO NOTHING
            """,
            {"stream": self._stream_id, "now": now},
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _message_uuid(self, sequence: str) -> str:
        name = f"concat({quote_literal(self._stream_id + ':')}, {sequence})"
        return f"CAST({identity.uuid_of_name(name)} AS UUID)"

    def _advance(self, messages: pa.Table, now: datetime) -> None:
        last = max(messages["sequence"].to_pylist(), default=0)
        self._connection.execute(
            """
            INSERT INTO stream_positions VALUES ($stream, $last, $now)
            ON CONFLICT (stream_id) DO UPDATE SET
                last_sequence = greatest(last_sequence, excluded.last_sequence),
                updated_at = excluded.updated_at
            """,
            {"stream": self._stream_id, "last": last, "now": now},
        )

    @contextmanager
    def _view(self, name: str, table: pa.Table) -> Iterator[None]:
        self._connection.register(name, table)
        try:
            yield
        finally:
            self._connection.unregister(name)


def _numbered(messages: pa.Table) -> pa.Table:
    """The messages with their bodies as text, and their place in the batch."""
    texts, unreadable = _as_text(messages["body"])
    return (
        messages.set_column(messages.schema.get_field_index("body"), "body", texts)
        .append_column("unreadable", unreadable)
        .append_column("position", pa.array(range(messages.num_rows), pa.int64()))
    )


def _as_text(bodies: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """The bodies as text and, apart from them, those that are not UTF-8."""
    try:
        return bodies.cast(pa.string()), pa.nulls(len(bodies), pa.string())
    except pa.ArrowInvalid:
        texts = [_utf8_or_none(body) for body in bodies.to_pylist()]
        spelled_out = [
            body.decode(errors="backslashreplace") if text is None else None
            for body, text in zip(bodies.to_pylist(), texts, strict=True)
        ]
        return pa.array(texts, pa.string()), pa.array(spelled_out, pa.string())


def _utf8_or_none(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
