"""Plays that are likely one and the same, for a person to look at."""

from __future__ import annotations

from typing import Final

import duckdb

from tautulli_pipeline.warehouse.reading import Listing, Page, fetch_dicts

_LISTED: Final = """
    SELECT * REPLACE (
        first_event_id::VARCHAR AS first_event_id, second_event_id::VARCHAR AS second_event_id
    )
    FROM found ORDER BY first_started_at DESC, first_event_id, second_event_id
"""


def list_near_matches(connection: duckdb.DuckDBPyConnection, page: Page) -> Listing:
    """Pairs of the view `near_matches`, the latest first."""
    connection.execute("CREATE OR REPLACE TEMP TABLE found AS FROM near_matches")
    counted = connection.execute("SELECT count(*) FROM found").fetchone()
    sql = f"{_LISTED} LIMIT {page.limit:d} OFFSET {page.offset:d}"
    return Listing(counted[0] if counted else 0, fetch_dicts(connection, sql, {}))
