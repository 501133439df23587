"""Decides what the duplicates of a batch say: nothing new, newer content, or another numbering.

Newer content is appended to `playback_revisions`, and a decision that a person may want to look
at goes into `dedupe_audit_log`. An exact repeat leaves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline.warehouse.cache import Match
from tautulli_pipeline.warehouse.decoder import compared, whole_content_query
from tautulli_pipeline.warehouse.matching import SAME_PLAY

_NAME: Final = "concat($stream, ':', i.sequence)"
_ID: Final = f"CAST({identity.uuid_of_name(_NAME)} AS UUID)"

# The newest content of a play has the same bytes, and its hash is stored. After other content of
# the same play in this batch, it is no longer the newest.
_INEXACT: Final = """
    SELECT d.position FROM discarded d JOIN incoming i USING (position)
    JOIN messages m USING (position)
    LEFT JOIN (
        SELECT id, payload_hash, content_hash FROM playback_events t WHERE {nearby}
    ) t ON t.id = d.event_id::UUID
    LEFT JOIN (
        SELECT id, max_by({{'bytes': payload_hash, 'content': content_hash}}, revision) AS newest
        FROM playback_revisions WHERE id IN (SELECT event_id::UUID FROM discarded) GROUP BY id
    ) v ON v.id = d.event_id::UUID
    QUALIFY bool_or(NOT coalesce(
        hash(m.body) = CASE WHEN v.id IS NULL THEN t.payload_hash ELSE v.newest.bytes END
        AND (i.content_hash IS NULL OR i.content_hash =
            CASE WHEN v.id IS NULL THEN t.content_hash ELSE v.newest.content END), false)
    ) OVER (PARTITION BY d.event_id ORDER BY d.position)
"""
_REPEATS: Final = f"""
    SELECT d.position, d.layer, d.reason, d.event_id AS play_id, i.id AS event_id,
        {compared("c")} AS compared, c.group_started_at, c.reference_id,
        coalesce(i.content_hash, {compared("c")}) AS content_hash, i.source, i.server,
        i.user_id, i.started_at,
        i.source_row_id, i.import_id, i.newest_start, i.sequence
    FROM discarded d JOIN incoming i USING (position)
    JOIN ({whole_content_query()}) c USING (position) ORDER BY d.position
"""
_VERSION: Final = f"""
    id::VARCHAR, {{revision}} AS revision, {{event_id}}::VARCHAR, {compared("t")}, group_started_at,
    reference_id, content_hash, source, server_id, user_id, started_at, source_row_id, import_id,
    stream_id, stream_sequence, {{at}}, restored_at
"""
_VERSIONS: Final = f"""
    SELECT {_VERSION.format(revision="0", event_id="id", at="created_at")} FROM playback_events t
    WHERE id IN (SELECT unnest($plays::UUID[])) AND {{nearby}}
    UNION ALL
    SELECT {_VERSION.format(revision="revision", event_id="event_id", at="revised_at")}
    FROM playback_revisions t WHERE id IN (SELECT unnest($plays::UUID[]))
    ORDER BY revision
"""
_LOGGED: Final = """
    SELECT matched_event_id::VARCHAR, {server} AS server, discarded_event_id::VARCHAR,
        content_hash, created_at, stream_sequence, coalesce(from_older_file, false)
    FROM dedupe_audit_log
    WHERE matched_event_id IN (SELECT unnest($plays::UUID[]))
        AND content_hash IS NOT NULL  -- it is NULL in rows of version 0.1.0
    ORDER BY created_at, stream_sequence
"""
_INSERT_REVISIONS: Final = f"""
    INSERT INTO playback_revisions BY NAME
    SELECT c.* EXCLUDE (position, sequence, content_hash) REPLACE (v.play_id::UUID AS id),
        v.revision, c.id AS event_id, v.content_hash, $stream AS stream_id,
        sequence AS stream_sequence, v.restored_at, $now AS revised_at
    FROM ({whole_content_query()}) c JOIN revising v USING (position)
"""
_INSERT_AUDIT: Final = f"""
    INSERT INTO dedupe_audit_log BY NAME
    SELECT {_ID} AS id, i.id::UUID AS discarded_event_id, m.body AS discarded_payload,
        i.source AS discarded_source, i.server_id AS discarded_server_id,
        i.subject AS discarded_subject, d.event_id::UUID AS matched_event_id,
        d.source AS matched_source, a.matched_server_id, d.layer AS dedupe_layer,
        d.reason AS dedupe_reason, a.content_differs, a.content_hash, a.from_older_file,
        i.source_row_id, i.import_id, $stream AS stream_id, i.sequence AS stream_sequence,
        $now AS created_at
    FROM auditing a JOIN discarded d USING (position) JOIN incoming i USING (position)
    JOIN messages m USING (position)
"""
_INSERT_ALIASES: Final = f"""
    INSERT INTO event_aliases BY NAME
    SELECT DISTINCT ON (i.id, i.server) i.id::UUID AS event_id, d.event_id::UUID AS play_id,
        i.source, i.server_id, i.started_at
    FROM discarded d JOIN incoming i USING (position)
    WHERE i.source = '{identity.SOURCE}' AND i.id <> d.event_id AND d.reason <> 'event_id'
        AND NOT EXISTS (
            FROM event_aliases t WHERE t.event_id = i.id::UUID AND t.server_id = i.server_id
                AND t.started_at = i.started_at
        )
"""
_UPDATE_HASH: Final = """
    UPDATE {table} SET content_hash = f.content_hash, group_started_at = f.group_started_at
    FROM filling f
    WHERE {table}.id = f.play_id::UUID AND {same}
"""


class _Repeat(NamedTuple):
    position: int
    layer: str
    reason: str
    play_id: str
    event_id: str
    compared: int
    group_started_at: datetime | None
    reference_id: int | None
    content_hash: int
    source: str
    server: str
    user_id: int
    started_at: datetime
    source_row_id: int | None
    import_id: str | None
    newest_start: int | None
    sequence: int


class _Version(NamedTuple):
    """The first version of a play (revision 0), or a revision of it."""

    play_id: str
    revision: int
    event_id: str
    compared: int
    group_started_at: datetime | None
    reference_id: int | None
    content_hash: int | None
    source: str
    server_id: str
    user_id: int
    started_at: datetime
    source_row_id: int | None
    import_id: str | None
    stream_id: str
    stream_sequence: int
    at: datetime
    restored_at: datetime | None

    @property
    def spoke_at(self) -> tuple[datetime, int]:
        """The order in which versions and audit rows came."""
        return self.at, self.stream_sequence

    def has_content_of(self, repeat: _Repeat) -> bool:
        """Whether the repeat says the same.

        Group numbers of another numbering do not count, nor a start of the group that is new.
        """
        same_group = self.group_started_at in {None, repeat.group_started_at}
        same_number = self.event_id != repeat.event_id or self.reference_id == repeat.reference_id
        return self.compared == repeat.compared and same_group and same_number


class _Logged(NamedTuple):
    """A row of the audit log about a play."""

    server: str
    event_id: str
    content_hash: int
    at: datetime
    stream_sequence: int
    from_older_file: bool

    @property
    def spoke_at(self) -> tuple[datetime, int]:
        """As of a version."""
        return self.at, self.stream_sequence


@dataclass
class _Play:
    """What is stored about a play.

    Attributes:
        versions: the first version and the revisions, in order.
        logged: servers and hashes of the contents in the audit log.
        reported: event ids and hashes of the contents in the audit log.
        said: by server and event id, the content that was last logged; what an older file said
            does not count.
    """

    versions: list[_Version] = field(default_factory=list)
    logged: set[tuple[str, int]] = field(default_factory=set)
    reported: set[tuple[str, int]] = field(default_factory=set)
    said: dict[tuple[str, str], _Logged] = field(default_factory=dict)

    def log(self, row: _Logged) -> None:
        """Remember a row of the audit log."""
        self.logged.add((row.server, row.content_hash))
        self.reported.add((row.event_id, row.content_hash))
        if not row.from_older_file:
            self.said[row.server, row.event_id] = row

    def has_said(self, repeat: _Repeat) -> bool:
        """Whether this is what the same row has said last, while another row spoke."""
        if self.versions[-1].event_id == repeat.event_id:
            return False
        own = next((v for v in reversed(self.versions) if v.event_id == repeat.event_id), None)
        logged = self.said.get((repeat.server, repeat.event_id))
        if logged is not None and (own is None or logged.spoke_at > own.spoke_at):
            return logged.content_hash == repeat.content_hash
        return own is not None and own.has_content_of(repeat)

    def has_logged(self, repeat: _Repeat) -> bool:
        """Whether the audit log has it; of an import, also under other row numbers."""
        if repeat.source == identity.SOURCE:
            return (repeat.server, repeat.content_hash) in self.logged
        return (repeat.event_id, repeat.content_hash) in self.reported


@dataclass
class Repeats:
    """The duplicates of one batch.

    Reads the views `messages` and `incoming` of the writer.

    Args:
        newest: by current server id, the newest start of a play in the file that spoke last.
        nearby: SQL condition for the rows `t` of `playback_events` to look at first.
    """

    connection: duckdb.DuckDBPyConnection
    stream_id: str
    servers: Servers
    newest: Mapping[str, int]
    nearby: str
    now: datetime
    _plays: defaultdict[str, _Play] = field(default_factory=lambda: defaultdict(_Play))
    _highest: dict[tuple[str, str | None], int] = field(default_factory=dict)
    _revising: list[dict[str, Any]] = field(default_factory=list)
    _auditing: list[dict[str, Any]] = field(default_factory=list)
    _filling: list[dict[str, Any]] = field(default_factory=list)

    def inexact(self, duplicates: Mapping[int, Match]) -> list[int]:
        """Return the positions of those that may not equal the newest content of their play."""
        rows = [{"position": position, **match._asdict()} for position, match in duplicates.items()]
        self.connection.register("discarded", pa.Table.from_pylist(rows))
        sql = _INEXACT.format(nearby=self.nearby)
        return [position for (position,) in self.connection.execute(sql).fetchall()]

    def record(self) -> None:
        """Record what the others say; `messages` has only these now."""
        repeats = [_Repeat(*row) for row in self._rows(_REPEATS)]
        self._read_plays({repeat.play_id for repeat in repeats})
        self._find_highest()
        for repeat in repeats:
            self._judge(repeat, self._plays[repeat.play_id])
        self._insert("revising", self._revising, _INSERT_REVISIONS, _REVISING)
        self._insert("auditing", self._auditing, _INSERT_AUDIT, _AUDITING)
        self._fill_hashes()
        self.connection.execute(_INSERT_ALIASES)

    def _rows(self, sql: str, **parameters: object) -> list[Any]:
        return self.connection.execute(sql, parameters).fetchall()

    def _read_plays(self, ids: Iterable[str]) -> None:
        plays = sorted(ids)
        found = [_Version(*row) for row in self._rows(self._versions(self.nearby), plays=plays)]
        if len({version.play_id for version in found if not version.revision}) < len(plays):
            found = [_Version(*row) for row in self._rows(self._versions("true"), plays=plays)]
        for version in found:
            self._plays[version.play_id].versions.append(version)
        logged = _LOGGED.format(server=self.servers.sql("discarded_server_id"))
        for play_id, *row in self._rows(logged, plays=plays):
            self._plays[play_id].log(_Logged(*row))

    def _versions(self, nearby: str) -> str:
        return _VERSIONS.format(nearby=nearby)

    def _find_highest(self) -> None:
        """Find the row with the highest id of those that are one play."""
        rows = self._rows(
            "SELECT d.event_id, i.import_id, max(i.source_row_id) FROM discarded d "
            "JOIN incoming i USING (position) WHERE i.source_row_id IS NOT NULL GROUP BY ALL"
        )
        self._highest = {(play_id, import_id): row_id for play_id, import_id, row_id in rows}

    def _judge(self, repeat: _Repeat, play: _Play) -> None:
        newest = play.versions[-1]
        is_same = newest.has_content_of(repeat)
        is_known = repeat.reason == "event_id"
        is_revision = not is_same and self._speaks(repeat, play, newest)
        is_held = is_known and self._holds(repeat, play)
        if is_revision:
            self._revise(repeat, play, newest)
        elif is_known and not is_held:
            equal = next((v for v in (newest, play.versions[0]) if v.has_content_of(repeat)), None)
            if equal is not None and self._is_of_server(repeat, equal):
                self._fill(repeat, equal)
                return
        if is_known:
            is_logged = is_revision or is_held
        else:
            # Only the cache knows the other keys, so a message that is delivered again after a
            # restart is recognized by its row in the audit log.
            is_logged = repeat.reason in SAME_PLAY and play.has_logged(repeat)
        if not is_logged:
            self._log(repeat, play)

    def _holds(self, repeat: _Repeat, play: _Play) -> bool:
        """Whether a version of this server or the audit log has this content."""
        return (repeat.server, repeat.content_hash) in play.logged or any(
            repeat.content_hash == version.content_hash and self._is_of_server(repeat, version)
            for version in play.versions
        )

    def _is_of_server(self, repeat: _Repeat, version: _Version) -> bool:
        return repeat.server == self.servers.current(version.server_id)

    def _speaks(self, repeat: _Repeat, play: _Play, newest: _Version) -> bool:
        """Whether other content than the newest replaces it."""
        return (
            self._may_speak(repeat, newest)
            and self._is_highest(repeat, newest)
            and (not play.has_said(repeat) or _is_above(repeat, newest))
        )

    def _may_speak(self, repeat: _Repeat, newest: _Version) -> bool:
        # Only other producers give one id to different plays.
        is_same_play = (repeat.user_id, repeat.started_at) == (newest.user_id, newest.started_at)
        is_entitled = repeat.source in {identity.SOURCE, newest.source}
        is_redelivered = (
            newest.stream_id == self.stream_id and newest.stream_sequence >= repeat.sequence
        )
        return (
            self._is_of_server(repeat, newest)
            and is_same_play
            and is_entitled
            and not (self._is_from_older_file(repeat) or is_redelivered)
        )

    def _is_from_older_file(self, repeat: _Repeat) -> bool:
        """Whether a newer file of the same server has spoken before."""
        start = repeat.newest_start
        return start is not None and start < self.newest.get(repeat.server, 0)

    def _is_highest(self, repeat: _Repeat, newest: _Version) -> bool:
        """Whether no row with a higher id is the same play, as far as this import has shown."""
        row_id = repeat.source_row_id
        if row_id is None:
            return True
        if self._highest[repeat.play_id, repeat.import_id] > row_id:
            return False
        is_other = newest.import_id != repeat.import_id or newest.event_id == repeat.event_id
        return is_other or newest.source_row_id is None or newest.source_row_id < row_id

    def _revise(self, repeat: _Repeat, play: _Play, newest: _Version) -> None:
        version = newest._replace(
            **{name: getattr(repeat, name) for name in _SHARED},
            revision=newest.revision + 1,
            stream_id=self.stream_id,
            stream_sequence=repeat.sequence,
            at=self.now,
        )
        play.versions.append(version)
        self._revising.append({"position": repeat.position, **version._asdict()})

    def _fill(self, repeat: _Repeat, version: _Version) -> None:
        """Store what content that is the same did not have yet: its hash and its group."""
        play = self._plays[repeat.play_id]
        filled = version._replace(
            content_hash=repeat.content_hash, group_started_at=repeat.group_started_at
        )
        play.versions[play.versions.index(version)] = filled
        self._filling.append(filled._asdict())

    def _log(self, repeat: _Repeat, play: _Play) -> None:
        row = _Logged(
            repeat.server,
            repeat.event_id,
            repeat.content_hash,
            self.now,
            repeat.sequence,
            self._is_from_older_file(repeat),
        )
        play.log(row)
        first = play.versions[0]
        self._auditing.append(
            {
                "position": repeat.position,
                "matched_server_id": first.server_id,
                "content_differs": not first.has_content_of(repeat),
                "content_hash": row.content_hash,
                "from_older_file": row.from_older_file,
            }
        )

    def _insert(self, name: str, rows: list[dict[str, Any]], sql: str, schema: pa.Schema) -> None:
        if rows:
            self.connection.register(name, pa.Table.from_pylist(rows, schema=schema))
            self.connection.execute(sql, {"stream": self.stream_id, "now": self.now})
            self.connection.unregister(name)

    def _fill_hashes(self) -> None:
        if not self._filling:
            return
        self.connection.register("filling", pa.Table.from_pylist(self._filling, schema=_FILLING))
        first = _UPDATE_HASH.format(table="playback_events", same="f.revision = 0")
        same = "playback_revisions.revision = f.revision"
        self.connection.execute(first)
        self.connection.execute(_UPDATE_HASH.format(table="playback_revisions", same=same))
        self.connection.unregister("filling")


def _is_above(repeat: _Repeat, newest: _Version) -> bool:
    """Whether a lower row spoke before it."""
    return (
        None not in {repeat.source_row_id, newest.source_row_id}
        and repeat.source_row_id > newest.source_row_id  # type: ignore[operator]  # not None
    )


_SHARED: Final = tuple(set(_Repeat._fields) & set(_Version._fields) - {"play_id"})
_REVISING: Final = pa.schema(
    [
        ("position", pa.int64()),
        ("play_id", pa.string()),
        ("revision", pa.int32()),
        ("content_hash", pa.uint64()),
        ("restored_at", pa.timestamp("us")),
    ]
)
_AUDITING: Final = pa.schema(
    [
        ("position", pa.int64()),
        ("matched_server_id", pa.string()),
        ("content_differs", pa.bool_()),
        ("content_hash", pa.uint64()),
        ("from_older_file", pa.bool_()),
    ]
)
_FILLING: Final = pa.schema(
    [
        ("play_id", pa.string()),
        ("revision", pa.int32()),
        ("content_hash", pa.uint64()),
        ("group_started_at", pa.timestamp("us")),
    ]
)
