"""Writes a batch of messages to the warehouse in one transaction.

Redelivery is safe: a row stores the stream sequence of its message, and the ids of audit
rows and dead letters derive from it, so a redelivered message changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.batch import CurrentBatch
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.decoder import (
    OWN_SUBJECTS,
    content_query,
    keys_query,
    whole_content_query,
)
from tautulli_pipeline.warehouse.dedup import find_duplicates
from tautulli_pipeline.warehouse.discards import close_arrived, insert_audit, insert_dead_letters
from tautulli_pipeline.warehouse.log import WriteAheadLog
from tautulli_pipeline.warehouse.matching import match_query, started_near
from tautulli_pipeline.warehouse.schema import HEADROOM_ROWS, checkpoint, set_memory_limit
from tautulli_pipeline.warehouse.transaction import transaction

MESSAGES: Final = pa.schema(
    [
        ("sequence", pa.int64()),
        ("subject", pa.string()),
        ("import_id", pa.string()),
        ("message_id", pa.string()),
        ("body", pa.binary()),
    ]
)

_NUMBERED: Final = pa.schema(
    [
        *MESSAGES.remove(MESSAGES.get_field_index("body")),
        ("body", pa.string()),
        ("unreadable", pa.string()),
        ("position", pa.int64()),
    ]
)
TOO_LARGE: Final = "event does not fit in memory"
# The columns of `incoming` that hold the fields of `PlayKeys`.
_KEY_COLUMNS: Final = ("id", *PlayKeys._fields[1:])


def utc_now() -> datetime:
    """Return the current time in UTC without a time zone, as the warehouse stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


class Writer:
    """Writes the batches of one stream; the only writer of the warehouse."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        cache: DedupCache,
        stream_id: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._stream_id = stream_id
        self._clock = clock
        self._log = WriteAheadLog(connection)
        self._headroom_rows = 0
        self._messages = CurrentBatch(_NUMBERED)
        connection.register("messages", self._messages)
        connection.execute(f"PREPARE decode_keys AS {keys_query()}")
        connection.execute(f"PREPARE insert_own AS {self._insert_query(content_query())}")
        connection.execute(f"PREPARE insert_any AS {self._insert_query(whole_content_query())}")
        self._incoming = CurrentBatch(self._decode_keys().schema)
        connection.register("incoming", self._incoming)

    def write(self, messages: pa.Table) -> None:
        """Write `messages` (columns of `MESSAGES`), in parts if they do not fit in memory.

        Rows, audit rows, dead letters and the position in the stream are committed
        together; the messages may be acked once this returns.
        """
        with suppress(duckdb.OutOfMemoryException):
            self._write_whole(messages)
            return
        # Huge texts: a checkpoint frees the memory of loose rows, and two halves fit where
        # the whole does not. A message that does not fit by itself must not block the rest.
        # Within an `except` block, the error would keep the results of the failed attempt.
        checkpoint(self._connection)
        half = messages.num_rows // 2
        if half:
            self.write(messages[:half])
            self.write(messages[half:])
            return
        with suppress(duckdb.OutOfMemoryException):
            self._write_whole(messages)
            return
        self._write(messages, near_in_time=True, fault=TOO_LARGE)

    def _write_whole(self, messages: pa.Table) -> None:
        try:
            self._write(messages, near_in_time=True)
        except duckdb.ConstraintException:
            # A key equals one of a different time: search the whole table.
            self._write(messages, near_in_time=False)

    def _write(self, messages: pa.Table, *, near_in_time: bool, fault: str | None = None) -> None:
        now = self._clock()
        batch = self._messages.table = numbered(messages)
        incoming = self._decode_keys()
        if fault is not None:
            faults = pa.repeat(fault, len(incoming))
            incoming = incoming.drop_columns("fault").append_column("fault", faults)
        self._incoming.table = incoming
        events = incoming.filter(pc.is_null(incoming["fault"]))
        nearby = started_near(events)
        try:
            repeated = self._judge(events, nearby if near_in_time else "true")
            new = [p for p in events["position"].to_pylist() if p not in repeated]
            self._reserve_memory(len(new))
            self._log.admit(len(new), messages.nbytes)
            with transaction(self._connection):
                self._insert_events(batch, new, now)
                self._insert_audit(batch, repeated, nearby, now)
                if len(events) < len(batch):
                    insert_dead_letters(self._connection, self._stream_id, now)
                close_arrived(self._connection, now)
                self._advance(messages, now)
        except BaseException:
            self._cache.forget_all()
            raise

    def _reserve_memory(self, rows: int) -> None:
        if rows > self._headroom_rows:
            set_memory_limit(self._connection)
            self._headroom_rows = HEADROOM_ROWS
        self._headroom_rows -= rows

    def _decode_keys(self) -> pa.Table:
        return self._connection.execute("EXECUTE decode_keys").to_arrow_table()

    def _judge(self, events: pa.Table, condition: str) -> dict[int, Match | None]:
        """Return by position what must not be stored; see `find_duplicates`."""
        columns = (events[name].to_pylist() for name in ("position", *_KEY_COLUMNS))
        keys = {position: PlayKeys(*values) for position, *values in zip(*columns, strict=True)}
        return find_duplicates(keys, self._stored(condition), self._cache)

    def _stored(self, condition: str) -> dict[int, Match]:
        """Return by position the stored row that an event of the batch matches."""
        rows = self._connection.execute(match_query(self._stream_id, condition)).fetchall()
        stored: dict[int, Match] = {}
        for position, *found in rows:
            match = Match("database", *found)
            if position not in stored or match.same_message:
                stored[position] = match
        return stored

    def _insert_query(self, content: str) -> str:
        return f"""
            INSERT INTO playback_events BY NAME
            SELECT * EXCLUDE (position, sequence), {quote_literal(self._stream_id)} AS stream_id,
                sequence AS stream_sequence, $1::TIMESTAMP AS created_at
            FROM ({content})
        """

    def _insert_events(self, batch: pa.Table, positions: Sequence[int], now: datetime) -> None:
        if not positions:
            return
        kept = _rows_of(batch, positions)
        own = pc.all(pc.starts_with(kept["subject"], OWN_SUBJECTS)).as_py()
        self._messages.table = kept
        statement = "insert_own" if own else "insert_any"
        self._connection.execute(f"EXECUTE {statement}(TIMESTAMP '{now}')")
        self._messages.table = batch

    def _insert_audit(
        self, batch: pa.Table, repeated: dict[int, Match | None], nearby: str, now: datetime
    ) -> None:
        duplicates = {p: match for p, match in repeated.items() if match is not None}
        if duplicates:
            self._messages.table = _rows_of(batch, list(duplicates))
            insert_audit(self._connection, self._stream_id, duplicates, nearby, now)
            self._messages.table = batch

    def _advance(self, messages: pa.Table, now: datetime) -> None:
        last = pc.max(messages["sequence"]).as_py() or 0
        self._connection.execute(
            """
            INSERT INTO stream_positions VALUES ($stream, $last, $now)
            ON CONFLICT (stream_id) DO UPDATE SET
                last_sequence = greatest(last_sequence, excluded.last_sequence),
                updated_at = excluded.updated_at
            """,
            {"stream": self._stream_id, "last": last, "now": now},
        )


def _rows_of(batch: pa.Table, positions: Sequence[int]) -> pa.Table:
    """Return these rows of the batch, without a copy if they are all of it."""
    return batch if len(positions) == len(batch) else batch.take(positions)


def numbered(messages: pa.Table) -> pa.Table:
    """Return the messages with their bodies as text and their positions in the batch."""
    texts, unreadable = _as_text(messages["body"])
    position = pa.array(range(messages.num_rows), pa.int64())
    envelope = messages.drop_columns("body").columns
    return pa.Table.from_arrays([*envelope, texts, unreadable, position], schema=_NUMBERED)


def _as_text(bodies: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return the bodies as text and, separately, those that are not UTF-8, escaped."""
    try:
        return bodies.cast(pa.string()), pa.nulls(len(bodies), pa.string())
    except pa.ArrowInvalid:
        texts, unreadable = zip(*map(_utf8_or_escaped, bodies.to_pylist()), strict=True)
        return pa.array(texts, pa.string()), pa.array(unreadable, pa.string())


def _utf8_or_escaped(body: bytes) -> tuple[str | None, str | None]:
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return None, body.decode(errors="backslashreplace")
