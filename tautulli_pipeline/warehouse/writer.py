"""Writes a batch of messages to the warehouse in one transaction.

Redelivery is safe: a row stores the stream sequence of its message, and the ids of audit
rows and dead letters derive from it, so a redelivered message changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.errors import WarehouseBrokenError
from tautulli_pipeline.events.batch import CurrentBatch
from tautulli_pipeline.events.identity import id_on_server, quote_literal
from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.caution import (
    Caution,
    blamed,
    is_broken,
    is_fault_of_disk,
)
from tautulli_pipeline.warehouse.decoder import content_query, keys_query, whole_content_query
from tautulli_pipeline.warehouse.dedup import find_duplicates
from tautulli_pipeline.warehouse.discards import close_arrived, insert_dead_letters
from tautulli_pipeline.warehouse.log import WriteAheadLog
from tautulli_pipeline.warehouse.matching import (
    foreign_ids_query,
    match_query,
    precedence,
    started_near,
)
from tautulli_pipeline.warehouse.repeats import Repeats
from tautulli_pipeline.warehouse.schema import (
    HEADROOM_ROWS,
    checkpoint,
    set_memory_limit,
    write_transaction,
)
from tautulli_pipeline.warehouse.screening import (
    OWN_SUBJECTS,
    SCREENED,
    portions,
    renumbered,
    screen,
)
from tautulli_pipeline.warehouse.server_list import Names, ServerList

_log = logging.getLogger(__name__)

MESSAGES: Final = pa.schema(
    [
        ("sequence", pa.int64()),
        ("subject", pa.string()),
        ("import_id", pa.string()),
        ("message_id", pa.string()),
        ("content", pa.string()),
        ("body", pa.binary()),
    ]
)

# The columns of `incoming` that hold the fields of `PlayKeys`.
_KEY_COLUMNS: Final = (
    *("play_id", "correlation", "session", "cross_source_key", "play", "source", "sequence"),
    "same_item",
)
_IDS_ON_SERVER: Final = f"""
    SELECT position, {id_on_server("server_id", "id")} FROM incoming
    WHERE position IN (SELECT unnest($positions::BIGINT[]))
"""
# The event id leads to a play that has an id of its own.
_INSERT_ALIASES: Final = """
    INSERT INTO event_aliases BY NAME
    SELECT id::UUID AS event_id, play_id::UUID AS play_id, source, server_id, started_at
    FROM incoming WHERE position IN (SELECT unnest($positions::BIGINT[]))
"""


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
        *,
        caution: Caution | None = None,
        servers: Servers = ONLY_CURRENT_IDS,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._stream_id = stream_id
        self._clock = clock
        self._caution = caution or Caution()
        self._servers = servers
        self._server_list = ServerList(connection, servers)
        self._log = WriteAheadLog(connection)
        self._headroom_rows = 0
        self._messages = CurrentBatch(SCREENED)
        connection.register("messages", self._messages)
        connection.execute(f"PREPARE decode_keys AS {keys_query(servers)}")
        self._prepared: set[str] = set()
        self._incoming = CurrentBatch(self._decode_keys().schema)
        connection.register("incoming", self._incoming)

    def write(self, messages: pa.Table) -> None:
        """Write `messages` (columns of `MESSAGES`), in parts if they do not fit in memory.

        Rows, audit rows, dead letters and the position in the stream are committed
        together; the messages may be acked once this returns.

        Raises:
            WarehouseBrokenError: the warehouse has to be reopened; write them again then.
        """
        for portion in portions(screen(messages), self._caution.most_rows):
            self._write_portion(self._caution.without_blamed(portion))

    def name(self, names: Names) -> None:
        """Store the names of users and libraries, unless a newer file has spoken."""
        self._server_list.name(names, self._clock())

    def _write_portion(self, portion: pa.Table) -> None:
        """Write a portion; if it fails, halve it down to the message that is to blame."""
        if self._try(portion) is None:
            return
        # A checkpoint frees the memory of loose rows.
        self._checkpoint(portion)
        half = len(portion) // 2
        if half:
            self._write_portion(renumbered(portion[:half]))
            self._write_portion(renumbered(portion[half:]))
            return
        error = self._try(portion)
        if error is not None:
            _log.warning("message %s cannot be stored: %r", portion["sequence"][0], error)
            self._write(blamed(portion, error), near_in_time=True)

    def _try(self, portion: pa.Table) -> Exception | None:
        """Write a portion, and return the error if parts of it may still be written."""
        try:
            self._write_whole(portion)
        except Exception as error:  # whatever a message caused must not block the others
            self._require_recoverable(error, portion)
            # Its traceback would keep the results of the failed attempt in memory.
            return error.with_traceback(None)
        return None

    def _checkpoint(self, portion: pa.Table) -> None:
        try:
            checkpoint(self._connection)
        except duckdb.Error as error:
            self._require_recoverable(error, portion)

    def _require_recoverable(self, error: Exception, portion: pa.Table) -> None:
        """Raise an error if it makes no sense to try parts of the portion.

        Raises:
            WarehouseBrokenError: DuckDB refuses all further work on this connection.
        """
        is_final = isinstance(error, WarehouseBrokenError) or is_fault_of_disk(error)
        if is_final or portion["refusal"].null_count == 0:
            raise error
        if is_broken(self._connection, error):
            self._caution.blame(portion, error)
            raise WarehouseBrokenError(
                f"DuckDB failed on {len(portion)} messages: {str(error).splitlines()[0]}",
                hint="run the command again",
            ) from error

    def _write_whole(self, portion: pa.Table) -> None:
        try:
            self._write(portion, near_in_time=True)
        except duckdb.ConstraintException:
            # A key equals one of a different time: search the whole table.
            self._write(portion, near_in_time=False)

    def _write(self, batch: pa.Table, *, near_in_time: bool) -> None:
        now = self._clock()
        self._messages.table = batch
        incoming = self._incoming.table = self._decode_keys()
        nearby = started_near(incoming.filter(pc.is_null(incoming["fault"])))
        condition = nearby if near_in_time else "true"
        renamed = self._rename(condition)
        events = self._incoming.table.filter(pc.is_null(incoming["fault"]))
        try:
            repeated = self._judge(events, condition)
            new = [p for p in events["position"].to_pylist() if p not in repeated]
            self._reserve_memory(len(new))
            self._log.admit(len(new), batch.nbytes, _largest_bytes(batch))
            with write_transaction(self._connection):
                self._server_list.note(events, now)
                self._insert_events(batch, new, renamed, now)
                self._record_repeats(batch, repeated, nearby, now)
                if len(events) < len(batch):
                    insert_dead_letters(self._connection, self._stream_id, now)
                close_arrived(self._connection, now)
                self._advance(batch, now)
        except BaseException:
            self._cache.forget_all()
            with suppress(duckdb.Error):  # the connection is of no more use
                self._server_list.forget()
            raise

    def _rename(self, condition: str) -> dict[int, str]:
        """Give ids of their own to events whose id is that of a play of another server.

        Returns:
            These ids by position; they are in the column `play_id` of `incoming`.
        """
        if self._server_list.has_no_other(pc.unique(self._incoming.table["server"]).to_pylist()):
            return {}
        query = foreign_ids_query(condition, self._servers)
        foreign = [position for (position,) in self._connection.execute(query).fetchall()]
        foreign += self._of_another_server_before(self._incoming.table)
        if not foreign:
            return {}
        found = self._connection.execute(_IDS_ON_SERVER, {"positions": foreign}).fetchall()
        renamed: dict[int, str] = dict(found)
        incoming = self._incoming.table
        ids = incoming["play_id"].to_pylist()
        ids = [
            renamed.get(position, known)
            for position, known in zip(incoming["position"].to_pylist(), ids, strict=True)
        ]
        index = incoming.schema.get_field_index("play_id")
        self._incoming.table = incoming.set_column(index, "play_id", pa.array(ids, pa.string()))
        return renamed

    def _of_another_server_before(self, incoming: pa.Table) -> list[int]:
        """Return the positions of events whose id an earlier event of another server has."""
        first: dict[str, str] = {}
        rows = incoming.select(["position", "id", "server"]).to_pylist()
        return [
            row["position"]
            for row in rows
            if row["id"] and first.setdefault(row["id"], row["server"]) != row["server"]
        ]

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
        rows = self._connection.execute(
            match_query(self._stream_id, condition, self._servers)
        ).fetchall()
        stored: dict[int, Match] = {}
        for position, *found in sorted(rows, key=precedence):
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

    def _insert_events(
        self, batch: pa.Table, positions: Sequence[int], renamed: Mapping[int, str], now: datetime
    ) -> None:
        if not positions:
            return
        kept = _rows_of(batch, positions)
        self._messages.table = kept
        if renamed.keys() & set(positions):
            named = f"""
                SELECT c.* REPLACE (i.play_id::UUID AS id)
                FROM ({whole_content_query()}) c JOIN incoming i USING (position)
            """
            insert = self._insert_query(named).replace("$1::TIMESTAMP", f"TIMESTAMP '{now}'")
            self._connection.execute(insert)
            given = [position for position in positions if position in renamed]
            self._connection.execute(_INSERT_ALIASES, {"positions": given})
        else:
            own = pc.all(pc.starts_with(kept["subject"], OWN_SUBJECTS)).as_py()
            statement = self._prepare_insert(own=own)
            self._connection.execute(f"EXECUTE {statement}(TIMESTAMP '{now}')")
        self._messages.table = batch

    def _prepare_insert(self, *, own: bool) -> str:
        """Return the name of the prepared statement that inserts the current messages.

        Planning one takes up to 70 ms, and most imports need only that for our own messages.
        """
        name = "insert_own" if own else "insert_any"
        if name not in self._prepared:
            content = content_query() if own else whole_content_query()
            self._connection.execute(f"PREPARE {name} AS {self._insert_query(content)}")
            self._prepared.add(name)
        return name

    def _record_repeats(
        self, batch: pa.Table, repeated: dict[int, Match | None], nearby: str, now: datetime
    ) -> None:
        duplicates = {p: match for p, match in repeated.items() if match is not None}
        if not duplicates:
            return
        newest = self._server_list.newest
        repeats = Repeats(self._connection, self._stream_id, self._servers, newest, nearby, now)
        self._messages.table = _rows_of(batch, list(duplicates))
        inexact = repeats.inexact(duplicates)
        if inexact:
            self._messages.table = _rows_of(batch, inexact)
            repeats.record()
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


def _largest_bytes(batch: pa.Table) -> int:
    return pc.max(pc.binary_length(batch["body"])).as_py() or 0


def _rows_of(batch: pa.Table, positions: Sequence[int]) -> pa.Table:
    """Return these rows of the batch, without a copy if they are all of it."""
    return batch if len(positions) == len(batch) else batch.take(positions)
