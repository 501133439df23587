"""Replay dead letters: map or decode them with the current code and write them to the table.

A replay is safe to repeat: if the play is already in the table, its letter is closed without
a write, and the rows that it writes have the same keys as all other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import duckdb
import orjson
import pyarrow as pa

from tautulli_pipeline.events.columns import HISTORY
from tautulli_pipeline.imports.receipts import DUPLICATE, REJECTED
from tautulli_pipeline.imports.rejected_rows import RejectedRow, RowSource, is_whole, map_rows
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.dead_letters import TABLE, Letter, open_letters
from tautulli_pipeline.warehouse.decoder import keys_query
from tautulli_pipeline.warehouse.integrity import position_on
from tautulli_pipeline.warehouse.schema import checkpoint, warehouse_id
from tautulli_pipeline.warehouse.screening import NOT_JSON, NOT_UTF8, is_beginning, screen
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer, utc_now

IMPORTED: Final = "imported"
OUTCOMES_IN_WORDS: Final = {
    IMPORTED: "imported",
    DUPLICATE: "already in the table",
    REJECTED: "still dead letters",
}
# The reason of 0.1.0 for whole messages that are stored as a JSON string.
_TOO_LARGE: Final = "event does not fit in memory"

# Less than a row group: each stream of a portion has its own writer.
_LETTERS_AT_A_TIME: Final = 500
_BYTES_AT_A_TIME: Final = 16 * 2**20

_NOTED: Final = pa.schema(
    [(name, pa.string()) for name in ("id", "outcome", "reason", "event_id", "record")]
)
_NOTE: Final = f"""
    UPDATE {TABLE} SET replayed_at = $now,
        reason = coalesce(t.reason, {TABLE}.reason),
        closed_at = CASE WHEN t.event_id IS NOT NULL THEN $now END,
        closed_by = CASE WHEN t.event_id IS NOT NULL THEN 'replay' END,
        closed_event_id = t.event_id::UUID
    FROM tried t WHERE {TABLE}.id = t.id::UUID
"""
_NOTE_RECORD: Final = f"""
    UPDATE {TABLE} SET record = t.record
    FROM tried t WHERE {TABLE}.id = t.id::UUID AND t.record IS NOT NULL
"""
# The row that holds the play of a message, and whether this message wrote it.
_OUTCOMES: Final = f"""
    SELECT s.letter_id,
        CASE WHEN t.stream_id = s.stream_id AND t.stream_sequence = s.sequence
            THEN '{IMPORTED}' ELSE '{DUPLICATE}' END,
        coalesce(t.id, a.matched_event_id)::VARCHAR AS row_id
    FROM sent s LEFT JOIN playback_events t ON t.id = s.event_id::UUID
    LEFT JOIN dedupe_audit_log a ON a.stream_id = s.stream_id AND a.stream_sequence = s.sequence
    WHERE row_id IS NOT NULL
"""
_SENT: Final = pa.schema(
    dict.fromkeys(("letter_id", "event_id", "stream_id"), pa.string()) | {"sequence": pa.int64()}
)


@dataclass(frozen=True)
class Tried:
    """The result for one letter.

    Attributes:
        outcome: `IMPORTED`, `DUPLICATE` or `REJECTED`.
        reason: the current reason why it stays a dead letter.
        event_id: the table row that holds the play.
        record: the current source row if it is still rejected; dropped once it is stored.
    """

    id: str
    outcome: str
    reason: str | None = None
    event_id: str | None = None
    record: str | None = None


@dataclass(frozen=True)
class _Sent:
    """A letter that is now a valid event, as a message."""

    letter: Letter
    event_id: str
    stream_id: str
    sequence: int
    subject: str
    body: str

    def facts(self) -> dict[str, Any]:
        """Return the message for the writer, without an import id."""
        return {
            "sequence": self.sequence,
            "subject": self.subject,
            "message_id": self.letter.message_id or self.event_id,
            "body": self.body.encode(),
        }


def replay(
    connection: duckdb.DuckDBPyConnection,
    ids: Sequence[str],
    source: OpenSource | None,
    server_id: str,
) -> Iterator[Tried]:
    """Replay these letters; skip closed ones.

    Args:
        connection: the warehouse; there must be no other writer.
        ids: full ids.
        source: the source to read the rows from again; rows that are gone, or that now hold
            another play, are mapped from the stored record.
        server_id: the server of that source; letters of other servers are not read from it.

    Raises:
        SourceError: the source cannot be read.
    """
    with ExitStack() as stack:
        rows = None
        if source is not None:
            rows = RowSource(stack.enter_context(source.open_reader()), source.schema)
        for letters in _portions(open_letters(connection, ids)):
            yield from _Portion(connection, letters).replay(rows, server_id)
            # The writers of the next portion start with an empty log.
            checkpoint(connection)
            release_memory()


def _portions(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    portion: list[Letter] = []
    size_bytes = 0
    for letter in letters:
        size_bytes += len(letter.record)
        if portion and (len(portion) == _LETTERS_AT_A_TIME or size_bytes > _BYTES_AT_A_TIME):
            yield portion
            portion, size_bytes = [], len(letter.record)
        portion.append(letter)
    if portion:
        yield portion


class _Portion:
    """The letters that are replayed together."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, letters: Sequence[Letter]) -> None:
        self._connection = connection
        self._letters = letters
        self._rejected: dict[str, Tried] = {}

    def replay(self, rows: RowSource | None, server_id: str) -> list[Tried]:
        of_rows = [letter for letter in self._letters if letter.origin == HISTORY]
        of_messages = [letter for letter in self._letters if letter.origin != HISTORY]
        sent = [*self._mapped(of_rows, rows, server_id), *self._decoded(of_messages)]
        known = self._outcomes(sent)
        self._write([message for message in sent if message.letter.id not in known])
        outcomes = self._outcomes(sent)
        tried = [
            outcomes.get(letter.id)
            or self._rejected.get(letter.id)
            or Tried(letter.id, REJECTED, letter.reason)
            for letter in self._letters
        ]
        self._note(tried)
        return [replace(one, record=None) for one in tried]

    def _mapped(
        self, letters: Sequence[Letter], source: RowSource | None, server_id: str
    ) -> Iterator[_Sent]:
        """Yield the letters of source rows that are now valid events."""
        if not letters:
            return
        # Rows that were never on a stream get a synthetic one.
        stream_id = f"dead-letters@{warehouse_id(self._connection)}"
        sequence = position_on(self._connection, stream_id)
        found = source.read([n for n in letters if n.server_id == server_id]) if source else {}
        letters = [n for n in letters if n.id in found or is_whole(n.record)]
        rows = [found.get(n.id) or RejectedRow.of_record(n.record) for n in letters]
        mapped = map_rows(rows, [letter.server_id or server_id for letter in letters])
        for letter, row, event in zip(letters, rows, mapped, strict=True):
            if event.payload is None or event.event_id is None:
                self._rejected[letter.id] = Tried(
                    letter.id, REJECTED, event.reason, record=row.record
                )
            else:
                sequence += 1
                yield _Sent(
                    letter, event.event_id, stream_id, sequence, event.subject, event.payload
                )

    def _decoded(self, letters: Sequence[Letter]) -> Iterator[_Sent]:
        """Yield the letters of messages that are now valid events, as the original messages."""
        messages = [
            _Sent(n, "", n.stream_id or "", n.stream_sequence or 0, n.origin, _body(n))
            for n in letters
            if n.reason != NOT_UTF8 and not is_beginning(n.record)
        ]
        if not messages:
            return
        query = f"SELECT id, fault FROM ({keys_query()}) ORDER BY position"
        decoded = self._query_over("messages", screen(_as_table(messages)), query)
        for message, (event_id, fault) in zip(messages, decoded, strict=True):
            if fault is None:
                yield replace(message, event_id=event_id)
            else:
                letter_id = message.letter.id
                self._rejected[letter_id] = Tried(letter_id, REJECTED, fault)

    def _write(self, sent: Sequence[_Sent]) -> None:
        for stream_id in dict.fromkeys(message.stream_id for message in sent):
            writer = Writer(self._connection, DedupCache(0, 0), stream_id)
            writer.write(_as_table([m for m in sent if m.stream_id == stream_id]))

    def _outcomes(self, sent: Sequence[_Sent]) -> dict[str, Tried]:
        """Return, by letter id, the row that holds its play, if there is one."""
        rows = [{**vars(message), "letter_id": message.letter.id} for message in sent]
        table = pa.Table.from_pylist(rows, schema=_SENT)
        return {
            letter_id: Tried(letter_id, outcome, event_id=row_id)
            for letter_id, outcome, row_id in self._query_over("sent", table, _OUTCOMES)
        }

    def _note(self, tried: Sequence[Tried]) -> None:
        table = pa.Table.from_pylist([asdict(one) for one in tried], schema=_NOTED)
        self._query_over("tried", table, _NOTE, {"now": utc_now()})
        self._query_over("tried", table, _NOTE_RECORD)

    def _query_over(
        self, view: str, table: pa.Table, sql: str, parameters: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of `sql`, which reads `table` as a view."""
        self._connection.register(view, table)
        try:
            return self._connection.execute(sql, parameters).fetchall()
        finally:
            self._connection.unregister(view)


def _body(letter: Letter) -> str:
    """Return the original message; invalid JSON is stored as a JSON string."""
    if letter.record.startswith('"') and letter.reason in {NOT_JSON, _TOO_LARGE}:
        return str(orjson.loads(letter.record))
    return letter.record


def _as_table(messages: Sequence[_Sent]) -> pa.Table:
    return pa.Table.from_pylist([message.facts() for message in messages], schema=MESSAGES)
