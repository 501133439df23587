"""The ledger: one outcome for each source row, derived from the tables of the warehouse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.warehouse.reading import fetch_dicts
from tautulli_pipeline.warehouse.row_letters import close_arrived, insert_rejected
from tautulli_pipeline.warehouse.schema import checkpoint
from tautulli_pipeline.warehouse.transaction import transaction

_PORTION_BYTES: Final = 8 * 2**20
_SLICES_PER_CHECKPOINT: Final = 4

# Ids of source rows by import and partition.
Unsettled = dict[tuple[str, str], list[int]]

_COUNTS: Final = (
    *("duplicates_stream", "duplicates_cache", "duplicates_database"),
    *("published", "imported", "rejected", "errors", "revised", "logged"),
)

# A table without a primary key can hold the same row twice. Only one of them is imported.
# A row without an audit row is a repeat if its content is known.
_OUTCOMES = """
    CREATE OR REPLACE TEMP TABLE row_outcomes AS
    SELECT r.*, v.source_row_id IS NOT NULL AS is_revision,
        a.dedupe_layer IS NOT NULL AS is_logged, CASE
        WHEN r.outcome = 'rejected' THEN 'rejected'
        WHEN r.outcome = 'unreadable' THEN 'errors'
        WHEN r.content_hash IS NOT NULL AND h.content_hash IS NULL THEN NULL
        WHEN e.source_row_id IS NOT NULL AND r.is_first THEN 'imported'
        WHEN v.source_row_id IS NOT NULL THEN 'database'
        WHEN r.outcome = 'duplicate' AND e.source_row_id IS NOT NULL THEN 'stream'
        WHEN a.dedupe_layer IS NOT NULL THEN a.dedupe_layer
        WHEN r.content_hash IS NULL THEN NULL
        WHEN r.outcome = 'duplicate' THEN 'stream'
        ELSE 'database'
    END AS final
    FROM (
        SELECT import_id, partition_key, server_id, published_at, source_row_id,
            TRY_CAST(event_id AS UUID) AS event_id, outcome, content_hash,
            row_number() OVER (
                PARTITION BY import_id, source_row_id, event_id ORDER BY outcome DESC
            ) = 1 AS is_first
        FROM receipt_rows
    ) r
    LEFT JOIN (
        SELECT id AS event_id, import_id, source_row_id FROM playback_events
        WHERE restored_at IS NULL AND source_row_id BETWEEN $first AND $last
        UNION ALL
        SELECT n.event_id, e.import_id, e.source_row_id
        FROM event_aliases n JOIN playback_events e ON e.id = n.play_id
        WHERE e.restored_at IS NULL AND e.source_row_id BETWEEN $first AND $last
    ) e ON e.event_id = r.event_id AND e.import_id = r.import_id
        AND e.source_row_id = r.source_row_id
    LEFT JOIN (
        SELECT import_id, source_row_id, discarded_event_id, min(dedupe_layer) AS dedupe_layer
        FROM dedupe_audit_log
        WHERE import_id IS NOT NULL AND source_row_id BETWEEN $first AND $last
        GROUP BY ALL
    ) a ON a.source_row_id = r.source_row_id AND a.import_id = r.import_id
        AND a.discarded_event_id = r.event_id
    LEFT JOIN (
        SELECT DISTINCT import_id, source_row_id, event_id FROM playback_revisions
        WHERE import_id IS NOT NULL AND source_row_id BETWEEN $first AND $last
    ) v ON v.source_row_id = r.source_row_id AND v.import_id = r.import_id
        AND v.event_id = r.event_id
    LEFT JOIN ({known}) h ON h.content_hash = r.content_hash AND h.server = {server}
"""
# The contents in the tables, with the current id of their server.
_KNOWN = """
    SELECT DISTINCT content_hash, {server} AS server FROM (
        SELECT content_hash, server_id FROM playback_events WHERE {rows}
        UNION ALL SELECT content_hash, server_id FROM playback_revisions WHERE {rows}
        UNION ALL SELECT content_hash, discarded_server_id FROM dedupe_audit_log WHERE {rows}
    ) WHERE content_hash IN (SELECT content_hash FROM {wanted})
"""

# Rows whose content other rows or imports brought, rows of receipts of version 0.1.0, which
# had no hashes, and events that arrived but could not be read. A message id begins with the
# event id.
_LATE_OUTCOMES = """
    UPDATE row_outcomes SET final = late.final FROM (
        SELECT DISTINCT ON (f.rowid) f.rowid AS row_number,
            CASE WHEN d.event_id IS NOT NULL THEN 'rejected'
                WHEN f.outcome = 'duplicate' THEN 'stream' ELSE 'database' END AS final
        FROM row_outcomes f
        LEFT JOIN playback_events e ON e.id = f.event_id AND f.content_hash IS NULL
        LEFT JOIN dedupe_audit_log a
            ON a.discarded_event_id = f.event_id AND f.content_hash IS NULL
        LEFT JOIN ({known}) h ON h.content_hash = f.content_hash AND h.server = {server}
        LEFT JOIN dead_letters d ON split_part(d.event_id, ':', 1) = f.event_id::VARCHAR
        WHERE f.final IS NULL AND (d.event_id IS NOT NULL OR e.id IS NOT NULL
            OR a.id IS NOT NULL OR h.content_hash IS NOT NULL)
    ) late
    WHERE row_outcomes.rowid = late.row_number
"""

_WRITE_LINES = """
    INSERT OR REPLACE INTO import_ledger BY NAME
    SELECT import_id, partition_key, any_value(server_id) AS server_id,
        count(*) AS total_records,
        count(final) AS processed,
        count(*) FILTER (outcome = 'published' OR final IN ('imported', 'cache', 'database'))
            AS published,
        count(*) FILTER (final = 'imported') AS imported,
        count(*) FILTER (final = 'stream') AS duplicates_stream,
        count(*) FILTER (final = 'cache') AS duplicates_cache,
        count(*) FILTER (final = 'database') AS duplicates_database,
        count(*) FILTER (final = 'rejected') AS rejected,
        count(*) FILTER (final = 'errors') AS errors,
        count(*) FILTER (is_revision) AS revised,
        count(*) FILTER (is_logged) AS logged,
        any_value(published_at) AS published_at, $now AS settled_at
    FROM row_outcomes
    GROUP BY import_id, partition_key
"""


@dataclass(frozen=True)
class LedgerEntry:
    """One partition to settle.

    Attributes:
        published_at: when the last PubAck arrived, in UTC.
        rows: source_row_id, event_id, outcome, reason, record and content_hash of each row;
            `outcome` is published, duplicate (in layer 1), rejected or unreadable.
    """

    import_id: str
    partition_key: str
    server_id: str
    published_at: datetime
    rows: pa.Table


class Ledger:
    """Settles partitions whose messages are all consumed."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, servers: Servers = ONLY_CURRENT_IDS
    ) -> None:
        self._connection = connection
        near = "source_row_id BETWEEN $first AND $last"
        self._outcomes = _with_known(_OUTCOMES, "r", "receipt_rows", servers, near)
        self._late_outcomes = _with_known(
            _LATE_OUTCOMES, "f", "row_outcomes WHERE final IS NULL", servers, "true"
        )

    def settle(self, entries: Iterable[LedgerEntry], now: datetime) -> Unsettled:
        """Write the ledger line of each partition and the dead letters of its rejected rows.

        Closes the letters of rows that have become events. Each transaction takes as many
        partitions as fit in memory. A partition may occur only once per import.

        Safe to repeat: a line is recomputed and replaced, and the id of a dead letter is
        derived from the content of its row.

        Returns:
            The ids of rows without an outcome (published, but not found in any table), by
            import and partition.
        """
        unsettled: Unsettled = {}
        for rows in _in_portions(map(_labeled, entries)):
            rejected = list(_slices(rows.filter(pc.equal(rows["outcome"], "rejected"))))
            # Too many for one transaction. A crash in between leaves letters that are found again.
            while len(rejected) > 1:
                with transaction(self._connection):
                    self._insert_rejected(rejected.pop(), now)
                if len(rejected) % _SLICES_PER_CHECKPOINT == 1:
                    checkpoint(self._connection)  # frees the memory of the letters
            with transaction(self._connection):
                for few in rejected:
                    self._insert_rejected(few, now)
                unsettled.update(self._settle(rows, now))
        return unsettled

    def _insert_rejected(self, rows: pa.Table, now: datetime) -> None:
        self._connection.register("receipt_rows", rows)
        try:
            insert_rejected(self._connection, _span(rows), now)
        finally:
            self._connection.unregister("receipt_rows")

    def _settle(self, rows: pa.Table, now: datetime) -> Unsettled:
        span = _span(rows)
        try:
            self._connection.register("receipt_rows", rows.drop_columns(["reason", "record"]))
            self._connection.execute(self._outcomes, span)
        finally:
            self._connection.unregister("receipt_rows")
        columns = "import_id, partition_key, source_row_id"
        missing = f"SELECT {columns} FROM row_outcomes WHERE final IS NULL"
        if self._connection.execute(f"{missing} LIMIT 1").fetchone():
            self._connection.execute(self._late_outcomes)
        close_arrived(self._connection, span, now)
        self._connection.execute(_WRITE_LINES, {"now": now})
        unsettled: Unsettled = {}
        lost = self._connection.execute(f"{missing} ORDER BY ALL").fetchall()
        for import_id, key, row_id in lost:
            unsettled.setdefault((import_id, key), []).append(row_id)
        return unsettled

    def totals(self, import_id: str, partitions: Collection[str] | None = None) -> dict[str, int]:
        """Return the sums over these partitions of an import, or all, by column."""
        sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in _COUNTS)
        (totals,) = fetch_dicts(
            self._connection,
            f"SELECT {sums} FROM import_ledger "
            "WHERE import_id = $id AND ($keys IS NULL OR list_contains($keys, partition_key))",
            {"id": import_id, "keys": None if partitions is None else list(partitions)},
        )
        return totals


def _with_known(sql: str, table: str, wanted: str, servers: Servers, rows: str) -> str:
    """Return SQL that compares the rows of `table` with the contents in the tables."""
    known = _KNOWN.format(server=servers.sql("server_id"), rows=rows, wanted=wanted)
    return sql.format(known=known, server=servers.sql(f"{table}.server_id"))


def _in_portions(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join the tables to portions of limited size; raw records can make them large."""
    portion: list[pa.Table] = []
    size_bytes = 0
    for table in tables:
        if portion and size_bytes + table.nbytes > _PORTION_BYTES:
            yield pa.concat_tables(portion)
            portion, size_bytes = [], 0
        portion.append(table)
        size_bytes += table.nbytes
    if portion:
        yield pa.concat_tables(portion)


def _span(rows: pa.Table) -> dict[str, int | None]:
    """Return the first and the last id of the rows."""
    ends = pc.min_max(rows["source_row_id"])
    return {"first": ends["min"].as_py(), "last": ends["max"].as_py()}


def _slices(rows: pa.Table) -> Iterator[pa.Table]:
    """Split the rows of a portion, which can be one large partition, into small slices."""
    slices = rows.nbytes // _PORTION_BYTES + 1
    width = max(1, -(-rows.num_rows // slices))
    yield from (rows.slice(first, width) for first in range(0, rows.num_rows, width))


def _labeled(entry: LedgerEntry) -> pa.Table:
    """Return the rows of a partition, with the other fields of its entry as columns."""
    rows = entry.rows
    for name in ("import_id", "partition_key", "server_id", "published_at"):
        rows = rows.append_column(name, pa.repeat(getattr(entry, name), rows.num_rows))
    return rows
