"""What the upgrade from version 0.1.0 does row by row.

Each step goes through the rows of one table, in parts that are committed one by one. The table
`upgrade_progress` knows how many rows are done, so that an interrupted upgrade is taken up. The
migration that follows the steps is recorded when all of them are done; until then, the warehouse
can neither be read nor written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from tautulli_pipeline.events.identity import SOURCE, quote_literal
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.warehouse.decoder import compared, content_query
from tautulli_pipeline.warehouse.redaction import SUSPICIOUS, redact
from tautulli_pipeline.warehouse.screening import OWN_SUBJECTS
from tautulli_pipeline.warehouse.transaction import transaction

# The migration before which the steps are done.
AFTER_STEPS: Final = "0005_audit_log.sql"
# A part of the audit log fills a row group, and is no larger than a batch of the consumer.
PART_ROWS: Final = 4096
_PART_BYTES: Final = 32 * 2**20
# Decoding needs many times the memory of the payloads.
_DECODED_BYTES: Final = 4 * 2**20
# Only narrow columns are read of the other tables.
_NARROW_PART_ROWS: Final = 16 * PART_ROWS
_CLEANED_BYTES: Final = 8 * 2**20

UPGRADING: Final = "the warehouse of version 0.1.0 is being upgraded; this happens once"
OnUpgraded = Callable[[int, int], None]
"""Receives how many rows are done, and how many there are."""

_Connection = duckdb.DuckDBPyConnection

# Within one server, a play of another numbering may have the same number; the nearest start before
# the play is that of its group.
_GROUPS: Final = f"""
    UPDATE playback_events SET group_started_at = first.started_at
    FROM (
        SELECT p.id, max(g.started_at) AS started_at
        FROM playback_events p JOIN playback_events g
            ON g.server_id = p.server_id AND g.source_row_id = p.reference_id
            AND g.user_id = p.user_id AND g.started_at <= p.started_at AND g.source = p.source
        WHERE p.source = '{SOURCE}' AND p.rowid >= $first AND p.rowid < $last GROUP BY p.id
    ) first
    WHERE playback_events.id = first.id
"""

# Duplicates of version 0.1.0 with other content for the same play of the same server.
IS_CORRECTION: Final = f"""
    content_differs AND status <> 'user_restored' AND discarded_source = '{SOURCE}'
"""
# The newest content of the plays that were corrected: of the first version, and of revisions if
# this upgrade was interrupted.
_KNOWN: Final = f"""
    CREATE OR REPLACE TEMP TABLE known AS
    SELECT p.* REPLACE (
            coalesce(r.newest.event_id, p.event_id) AS event_id,
            coalesce(r.newest.compared, p.compared) AS compared,
            CASE WHEN r.id IS NULL THEN p.reference_id ELSE r.newest.reference_id END
                AS reference_id,
            coalesce(r.newest.revision, p.revision) AS revision
        )
    FROM (
        SELECT id AS play_id, id AS event_id, {compared("t")} AS compared, reference_id,
            0 AS revision, server_id, user_id, started_at, group_started_at, restored_at
        FROM playback_events t
        WHERE source = '{SOURCE}'
            AND id IN (SELECT matched_event_id FROM dedupe_audit_log WHERE {IS_CORRECTION})
    ) p
    LEFT JOIN (
        SELECT id, max_by(
            {{'event_id': event_id, 'compared': {compared("t")}, 'reference_id': reference_id,
                'revision': revision}}, revision) AS newest
        FROM playback_revisions t GROUP BY id
    ) r ON r.id = p.play_id
"""
_SIZES: Final = """
    SELECT rowid, sum(strlen(discarded_payload::VARCHAR)) OVER (ORDER BY rowid)
    FROM dedupe_audit_log WHERE rowid >= $first AND rowid < $last
"""
_PART: Final = """
    CREATE OR REPLACE TEMP TABLE part AS
    SELECT *, discarded_payload ->> '$.server_id' AS discarded_server_id
    FROM dedupe_audit_log WHERE rowid >= $first AND rowid < $last
"""
_COPY: Final = "INSERT INTO new_audit_log BY NAME FROM part"
_CORRECTIONS: Final = f"""
    CREATE OR REPLACE TEMP TABLE corrections AS
    SELECT id, row_number() OVER sorted - 1 AS position,
        sum(size) OVER sorted // {_DECODED_BYTES} AS batch
    FROM (
        SELECT id, created_at, stream_sequence, strlen(discarded_payload::VARCHAR) AS size
        FROM part WHERE {IS_CORRECTION}
    )
    WINDOW sorted AS (ORDER BY created_at, stream_sequence, id)
"""
# They do not say when their group began, so that of the play is taken.
_SEEDS: Final = f"""
    CREATE OR REPLACE TEMP TABLE seeds AS
    WITH messages AS (
        SELECT position, stream_sequence AS sequence, discarded_subject AS subject, import_id,
            NULL::VARCHAR AS message_id, NULL::VARCHAR AS content,
            discarded_payload::VARCHAR AS body, NULL::VARCHAR AS refusal
        FROM part JOIN corrections USING (id) WHERE batch = $batch
    )
    SELECT c.* REPLACE (k.group_started_at AS group_started_at), k.play_id,
        a.created_at AS revised_at, a.stream_id, k.restored_at
    FROM ({content_query()}) c
    JOIN corrections n ON n.position = c.position JOIN part a ON a.id = n.id
    JOIN known k ON k.play_id = a.matched_event_id AND k.server_id = a.discarded_server_id
        AND k.user_id = c.user_id AND k.started_at = c.started_at
"""
_CONTENTS: Final = f"""
    SELECT position, play_id::VARCHAR, id::VARCHAR, {compared("s")}, reference_id
    FROM seeds s ORDER BY position
"""
_NEWEST: Final = """
    SELECT play_id::VARCHAR, event_id::VARCHAR, compared, reference_id, revision FROM known
    WHERE play_id IN (SELECT play_id FROM seeds)
"""
_INSERT: Final = """
    INSERT INTO playback_revisions BY NAME
    SELECT s.* EXCLUDE (position, sequence, play_id) REPLACE (s.play_id AS id),
        s.id AS event_id, k.revision, s.sequence AS stream_sequence
    FROM seeds s JOIN kept k USING (position)
"""
_UPDATE_KNOWN: Final = f"""
    UPDATE known SET event_id = s.id, compared = s.compared, reference_id = s.reference_id,
        revision = s.revision
    FROM (
        SELECT s.play_id, s.id, {compared("s")} AS compared, s.reference_id, k.revision
        FROM seeds s JOIN kept k USING (position)
        QUALIFY row_number() OVER (PARTITION BY s.play_id ORDER BY k.revision DESC) = 1
    ) s
    WHERE known.play_id = s.play_id
"""
_KEPT: Final = pa.schema([("position", pa.int64()), ("revision", pa.int32())])


@dataclass(frozen=True)
class _Step:
    """Work on the rows of a table, in the order in which they were added.

    Attributes:
        table: the table.
        rows: the most rows of one part.
        advance: does the rows from one number on, at most to another one, and returns the number
            of the first row that is left.
        prepare: called before the first part.
    """

    table: str
    rows: int
    advance: Callable[[_Connection, int, int], int]
    prepare: Callable[[_Connection], None] = lambda _connection: None


def upgrade_rows(
    connection: _Connection,
    *,
    checkpoint: Callable[[_Connection], None],
    on_upgraded: OnUpgraded,
) -> None:
    """Do what is left of the steps.

    Args:
        connection: a warehouse whose next migration is `AFTER_STEPS`.
        checkpoint: called after each part.
        on_upgraded: called before each part and at the end; may raise to interrupt the upgrade.
    """
    steps = _steps()
    sizes = {step.table: _rows_in(connection, step.table) for step in steps}
    total, before = sum(sizes.values()), 0
    for step in steps:
        done, size = rows_done(connection, step.table), sizes[step.table]
        if done < size:
            step.prepare(connection)
        while done < size:
            on_upgraded(before + done, total)
            with transaction(connection):
                done = step.advance(connection, done, min(done + step.rows, size))
                _note(connection, step.table, done)
            checkpoint(connection)
            release_memory()
        before += size
    if total:
        on_upgraded(total, total)
    for table in ("known", "part", "corrections", "seeds", "found"):
        connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _steps() -> tuple[_Step, ...]:
    """Return the steps in order; the groups come first, because revisions take theirs."""
    return (
        _Step("playback_events", _NARROW_PART_ROWS, _find_groups_and_clean),
        _Step("dedupe_audit_log", PART_ROWS, _copy_audit_rows, _read_known),
        _Step("dead_letters", PART_ROWS, _clean_letters),
    )


def _rows_in(connection: _Connection, table: str) -> int:
    ((last,),) = connection.execute(f"SELECT coalesce(max(rowid), -1) FROM {table}").fetchall()
    return int(last) + 1


def rows_done(connection: _Connection, table: str) -> int:
    """Return how many rows of a table are done."""
    sql = "SELECT rows_done FROM upgrade_progress WHERE step = ?"
    return int((connection.execute(sql, [table]).fetchone() or (0,))[0])


def _note(connection: _Connection, table: str, done: int) -> None:
    connection.execute("DELETE FROM upgrade_progress WHERE step = ?", [table])
    connection.execute("INSERT INTO upgrade_progress VALUES (?, ?)", [table, done])


def _find_groups_and_clean(connection: _Connection, first: int, last: int) -> int:
    span = {"first": first, "last": last}
    connection.execute(_GROUPS, span)
    foreign = f"source <> '{SOURCE}' AND rowid >= {first} AND rowid < {last}"
    _remove_secrets(connection, "playback_events", "extra", foreign)
    return last


def _clean_letters(connection: _Connection, first: int, last: int) -> int:
    foreign = (
        f"origin <> 'session_history' AND NOT starts_with(origin, '{OWN_SUBJECTS}') "
        f"AND rowid >= {first} AND rowid < {last}"
    )
    _remove_secrets(connection, "dead_letters", "record", foreign)
    return last


def _read_known(connection: _Connection) -> None:
    connection.execute(_KNOWN)


def _copy_audit_rows(connection: _Connection, first: int, last: int) -> int:
    """Copy rows of the audit log; those with newer content become revisions too."""
    sizes = connection.execute(_SIZES, {"first": first, "last": last}).fetchall()
    fitting = [row + 1 for row, size in sizes if size <= _PART_BYTES]
    end = last if len(fitting) == len(sizes) else max(fitting, default=sizes[0][0] + 1)
    connection.execute(_PART, {"first": first, "last": end})
    foreign = f"NOT starts_with(discarded_subject, '{OWN_SUBJECTS}')"
    _remove_secrets(connection, "part", "discarded_payload", foreign)
    connection.execute(_COPY)
    _seed_revisions(connection)
    return end


class _Content(NamedTuple):
    event_id: str
    compared: int
    reference_id: int | None
    revision: int = 0

    def is_that_of(self, other: _Content) -> bool:
        return self.compared == other.compared and (
            self.event_id != other.event_id or self.reference_id == other.reference_id
        )


def _seed_revisions(connection: _Connection) -> None:
    connection.execute(_CORRECTIONS)
    batches = connection.execute("SELECT DISTINCT batch FROM corrections ORDER BY 1").fetchall()
    for (batch,) in batches:
        _seed_batch(connection, batch)


def _seed_batch(connection: _Connection, batch: int) -> None:
    connection.execute(_SEEDS, {"batch": batch})
    kept = _newer_contents(connection)
    if kept:
        connection.register("kept", pa.Table.from_pylist(kept, schema=_KEPT))
        connection.execute(_INSERT)
        connection.execute(_UPDATE_KNOWN)
        connection.unregister("kept")


def _newer_contents(connection: _Connection) -> list[dict[str, Any]]:
    """Return the seeds that differ from what was known of their play before."""
    newest: dict[str, _Content] = {}
    for play_id, *content in connection.execute(_NEWEST).fetchall():
        newest[play_id] = _Content(*content)
    kept = []
    for position, play_id, *content in connection.execute(_CONTENTS).fetchall():
        seed, known = _Content(*content), newest[play_id]
        if not seed.is_that_of(known):
            newest[play_id] = seed._replace(revision=known.revision + 1)
            kept.append({"position": position, "revision": known.revision + 1})
    return kept


def _remove_secrets(connection: _Connection, table: str, column: str, condition: str) -> None:
    """Remove the secrets that version 0.1.0 stored from messages of other producers."""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE found AS
        SELECT id, sum(strlen({column}::VARCHAR)) OVER (ORDER BY id) // {_CLEANED_BYTES} AS batch
        FROM {table}
        WHERE {condition} AND regexp_matches({column}::VARCHAR, {quote_literal(SUSPICIOUS)})
        """
    )
    batches = connection.execute("SELECT DISTINCT batch FROM found ORDER BY 1").fetchall()
    for (batch,) in batches:
        rows = connection.execute(
            f"SELECT id::VARCHAR, {column}::VARCHAR FROM {table} "
            "WHERE id IN (SELECT id FROM found WHERE batch = ?)",
            [batch],
        ).fetchall()
        cleaned = [{"id": row_id, "text": redact(text)} for row_id, text in rows]
        connection.register("cleaned", pa.Table.from_pylist(cleaned, schema=_CLEANED))
        connection.execute(
            f"UPDATE {table} SET {column} = c.text FROM cleaned c WHERE {table}.id = c.id::UUID"
        )
        connection.unregister("cleaned")


_CLEANED: Final = pa.schema([("id", pa.string()), ("text", pa.string())])
