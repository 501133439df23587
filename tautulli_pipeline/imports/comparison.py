"""Predict which plays are new: compare their keys with the table and with each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from tautulli_pipeline.errors import WarehouseError, WarehouseVersionError
from tautulli_pipeline.events import identity
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.warehouse.decoder import LAST_LOCAL_USER
from tautulli_pipeline.warehouse.matching import SAME_PLAY
from tautulli_pipeline.warehouse.schema import explained, require_current

# The columns of each layer 3 key, in the order in which the keys are tried.
_COLUMNS: Final = dict(
    zip(
        SAME_PLAY,
        (
            "event_id",
            "correlation_key",
            "rating_key, user_id, started_at",
            "guid, user_id, started_at",
        ),
        strict=True,
    )
)
_ROWS_AT_A_TIME: Final = 10_000

_KEYS: Final = """
    CREATE TABLE keys AS
    SELECT rowid AS position, event_id, correlation_key, rating_key, user_id, started_at, guid
    FROM plays WHERE reason IS NULL
"""
# Restored rows are not in the two indexes. Another server shares only the guids of users that
# are the same on all servers.
_ADD_STORED: Final = f"""
    INSERT INTO keys
    SELECT -1, CASE WHEN is_own THEN event_id END, CASE WHEN is_own THEN correlation_key END,
        CASE WHEN is_own AND restored_at IS NULL THEN rating_key END, user_id, started_at,
        CASE WHEN restored_at IS NULL AND (is_own OR user_id > {LAST_LOCAL_USER}) THEN guid END
    FROM (
        SELECT * REPLACE ({identity.global_guid("guid", "live = 1")} AS guid),
            {{server}} = $server AS is_own
        FROM ({{stored}})
    )
"""
_STORED: Final = {
    "playback_events": """
        SELECT id AS event_id, CASE WHEN restored_at IS NULL THEN correlation_key END
            AS correlation_key, rating_key, user_id, started_at, guid, live, restored_at, server_id
        FROM warehouse.playback_events""",
    # What came after version 0.1.0.
    "playback_revisions": """
        SELECT event_id, NULL, rating_key, user_id, started_at, guid, live, restored_at, server_id
        FROM warehouse.playback_revisions""",
    "event_aliases": """
        SELECT event_id, NULL, NULL, NULL, started_at, NULL, NULL, NULL, server_id
        FROM warehouse.event_aliases""",
}
# The first play with each key that several plays share.
_FIRST: Final = """
    LEFT JOIN (
        SELECT {1}, min(position) AS first FROM keys GROUP BY ALL HAVING count(*) > 1
    ) same_{0} USING ({1})
"""


@dataclass(frozen=True)
class Comparison:
    """The table that the plays were compared with, or why they were not."""

    path: str
    compared: bool
    reason: str


def compare(
    connection: duckdb.DuckDBPyConnection,
    warehouse: Path,
    server_id: str,
    servers: Servers = ONLY_CURRENT_IDS,
) -> tuple[dict[str, int], Comparison]:
    """Classify each play of the table `plays` as if the plays before it were already stored.

    The table at `warehouse` is only read, and released soon. Plays with a `reason` are not events.
    All plays are those of the server `server_id`.

    Returns:
        The number of plays that are `new`, and of duplicates by the first key that matches.
    """
    connection.execute(_KEYS)
    comparison = _add_stored(connection, warehouse, server_id, servers)
    return _judge(connection), comparison


def _add_stored(
    connection: duckdb.DuckDBPyConnection, warehouse: Path, server_id: str, servers: Servers
) -> Comparison:
    if not warehouse.exists():
        return Comparison(str(warehouse), True, "there is no table yet")
    try:
        with explained(warehouse, "read"):
            connection.execute(f"ATTACH {quote_literal(str(warehouse))} AS warehouse (READ_ONLY)")
    except WarehouseError as error:
        return Comparison(str(warehouse), False, error.message)
    try:
        _require_known_version(connection, warehouse)
        stored = " UNION ALL ".join(
            sql for name, sql in _STORED.items() if name in _tables(connection)
        )
        sql = _ADD_STORED.format(stored=stored, server=servers.sql("server_id"))
        connection.execute(sql, {"server": servers.current(server_id)})
    except WarehouseVersionError as error:
        return Comparison(str(warehouse), False, error.message)
    except (duckdb.CatalogException, duckdb.BinderException):
        return Comparison(str(warehouse), False, f"{warehouse} has no table playback_events")
    finally:
        connection.execute("DETACH warehouse")
    return Comparison(str(warehouse), True, "")


def _require_known_version(connection: duckdb.DuckDBPyConnection, warehouse: Path) -> None:
    """Refuse a warehouse of a newer version, or one whose upgrade is not finished."""
    connection.execute("USE warehouse")
    try:
        require_current(connection, warehouse, or_released=True)
    finally:
        connection.execute("USE memory")


def _tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the tables of the warehouse, and the one that it must have."""
    sql = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'warehouse'"
    return {"playback_events", *(name for (name,) in connection.execute(sql).fetchall())}


def _judge(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    ((size,),) = connection.execute("SELECT count(*) FROM plays").fetchall()
    firsts = ", ".join(f"coalesce(same_{key}.first, position)" for key in _COLUMNS)
    joins = "".join(_FIRST.format(key, columns) for key, columns in _COLUMNS.items())
    rows = connection.execute(
        f"SELECT {firsts} FROM keys {joins} WHERE position >= 0 ORDER BY position"
    )
    # For each key: whether it is stored, indexed by its first play; index -1 is the table.
    stored = [bytearray(size) + b"\1" for _ in _COLUMNS]
    counts = dict.fromkeys(("new", *_COLUMNS), 0)
    while chunk := rows.fetchmany(_ROWS_AT_A_TIME):
        for places in chunk:
            known = zip(_COLUMNS, stored, places, strict=True)
            verdict = next((key for key, taken, place in known if taken[place]), "new")
            counts[verdict] += 1
            if verdict == "new":
                for taken, place in zip(stored, places, strict=True):
                    taken[place] = 1
    return counts
