"""Plays that are likely one and the same, for a person to look at."""

from __future__ import annotations

from typing import Final

import duckdb

from tautulli_pipeline.warehouse.reading import Listing, Page, list_found

_LISTED: Final = """
    SELECT * REPLACE (
        first_event_id::VARCHAR AS first_event_id, second_event_id::VARCHAR AS second_event_id
    )
    FROM near_matches ORDER BY first_started_at DESC, first_event_id, second_event_id
"""


def list_near_matches(connection: duckdb.DuckDBPyConnection, page: Page) -> Listing:
    """Pairs of the view `near_matches`, the latest first."""
    return list_found(connection, _LISTED, page)
