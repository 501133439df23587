"""The servers in the warehouse, and the newest names of their users and libraries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.identity import SOURCE
from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline.warehouse.transaction import transaction

_WRITE: Final = """
    INSERT INTO servers VALUES ($id, $current, to_timestamp($newest)::TIMESTAMP, $now)
    ON CONFLICT (server_id) DO UPDATE SET current_id = excluded.current_id,
        newest_started_at = excluded.newest_started_at
"""
# Servers of other producers only have no newest start.
_IMPORTED: Final = """
    SELECT server_id FROM servers WHERE newest_started_at IS NOT NULL
    ORDER BY created_at, server_id
"""
_HOLDERS: Final = """
    SELECT {server}, count(DISTINCT t.event_id)
    FROM (
        SELECT id AS event_id, server_id FROM playback_events WHERE source = $source
        UNION ALL SELECT event_id, server_id FROM event_aliases
    ) t
    WHERE t.event_id IN (SELECT unnest($sample::VARCHAR[])::UUID) GROUP BY ALL
"""
_USER: Final = "INSERT OR REPLACE INTO users FROM named"
_LIBRARY: Final = "INSERT OR REPLACE INTO libraries FROM named"


@dataclass(frozen=True)
class Names:
    """The names in one file.

    Attributes:
        newest_start: the newest start of a play in the file, in Unix seconds.
        users: (user_id, username, friendly_name) of each user.
        libraries: (section_id, name, type, active) of each library.
    """

    server_id: str
    newest_start: int
    users: Sequence[tuple[int, str | None, str | None]] = ()
    libraries: Sequence[tuple[int, str | None, str | None, bool | None]] = ()


def known_servers(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the ids of servers whose plays were imported, the first one first."""
    return [server_id for (server_id,) in connection.execute(_IMPORTED).fetchall()]


def newest_starts(connection: duckdb.DuckDBPyConnection, servers: Servers) -> dict[str, int]:
    """Return the newest start in the files imported so far, in Unix seconds, by current id."""
    sql = f"SELECT {servers.sql('server_id')}, max(epoch(newest_started_at))::BIGINT FROM servers"
    rows = connection.execute(f"{sql} WHERE newest_started_at IS NOT NULL GROUP BY 1").fetchall()
    return dict(rows)


def holders_of(
    connection: duckdb.DuckDBPyConnection, event_ids: Sequence[str], servers: Servers
) -> dict[str, int]:
    """Return how many of these imported plays are stored, by current server id."""
    sql = _HOLDERS.format(server=servers.sql("t.server_id"))
    values = {"sample": list(event_ids), "source": SOURCE}
    return dict(connection.execute(sql, values).fetchall())


@dataclass
class ServerList:
    """Keeps `servers` up to date, and knows how new the file is that spoke last.

    Attributes:
        newest: by current server id, the newest start of a play in that file, in Unix seconds.
    """

    connection: duckdb.DuckDBPyConnection
    servers: Servers
    newest: dict[str, int] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.forget()
        for server_id in self._known:
            self._write(server_id, datetime.min)  # the ids that count as one may have changed

    def forget(self) -> None:
        """Read the table again, because a transaction was rolled back."""
        rows = self.connection.execute(
            "SELECT server_id, coalesce(epoch(newest_started_at), 0)::BIGINT FROM servers"
        ).fetchall()
        self._known = {server_id for server_id, _ in rows}
        self.newest = {}
        for server_id, newest in rows:
            self._raise(server_id, newest)

    def has_no_other(self, current_ids: Sequence[str]) -> bool:
        """Whether the tables and these servers are one server."""
        return len({*current_ids, *map(self.servers.current, self._known)}) <= 1

    def note(self, events: pa.Table, now: datetime) -> None:
        """Add the servers of a batch, and the newest start that their files name."""
        found = pc.unique(events["server_id"]).to_pylist()
        known = min((self.newest.get(self.servers.current(one), 0) for one in found), default=0)
        newest = pc.max(events["newest_start"]).as_py() or 0
        if set(found) <= self._known and newest <= known:
            return
        sums = events.group_by("server_id").aggregate([("newest_start", "max")])
        for server_id, start in zip(*(c.to_pylist() for c in sums.columns), strict=True):
            self._add(server_id, start or 0, now)

    def _add(self, server_id: str, newest: int, now: datetime) -> None:
        if self._raise(server_id, newest) or server_id not in self._known:
            self._write(server_id, now)
            self._known.add(server_id)

    def _raise(self, server_id: str, newest: int) -> bool:
        current = self.servers.current(server_id)
        is_newer = newest > self.newest.get(current, 0)
        if is_newer:
            self.newest[current] = newest
        return is_newer

    def _write(self, server_id: str, now: datetime) -> None:
        current = self.servers.current(server_id)
        newest = self.newest.get(current) or None
        values = {"id": server_id, "current": current, "newest": newest, "now": now}
        self.connection.execute(_WRITE, values)

    def name(self, names: Names, now: datetime) -> None:
        """Store the names of a file, unless a newer file has spoken."""
        if names.newest_start < self.newest.get(self.servers.current(names.server_id), 0):
            return
        with transaction(self.connection):
            self._add(names.server_id, names.newest_start, now)
            self._replace(_USER, names.server_id, names.users, _USERS)
            self._replace(_LIBRARY, names.server_id, names.libraries, _LIBRARIES)

    def _replace(
        self, sql: str, server_id: str, rows: Iterable[tuple[object, ...]], schema: pa.Schema
    ) -> None:
        columns = list(zip(*((server_id, *row) for row in rows), strict=True))
        if columns:
            arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            self.connection.register("named", pa.Table.from_arrays(arrays, schema=schema))
            self.connection.execute(sql)
            self.connection.unregister("named")


_USERS: Final = pa.schema(
    [
        ("server_id", pa.string()),
        ("user_id", pa.int32()),
        ("username", pa.string()),
        ("friendly_name", pa.string()),
    ]
)
_LIBRARIES: Final = pa.schema(
    [
        ("server_id", pa.string()),
        ("section_id", pa.int64()),
        ("name", pa.string()),
        ("type", pa.string()),
        ("active", pa.bool_()),
    ]
)
