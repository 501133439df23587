"""One warehouse for all tests in a file, because creating one takes 40 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline_tests.warehouse.plays import memory_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb


@pytest.fixture(scope="module")
def shared_warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with memory_warehouse() as connection:
        yield connection


@pytest.fixture
def emptied_warehouse(
    shared_warehouse: duckdb.DuckDBPyConnection,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield the shared warehouse and delete its rows after the test."""
    yield shared_warehouse
    for table in (
        *("playback_events", "playback_revisions", "event_aliases", "dedupe_audit_log"),
        *("dead_letters", "stream_positions", "servers", "users", "libraries", "import_ledger"),
    ):
        shared_warehouse.execute(f"DELETE FROM {table}")
