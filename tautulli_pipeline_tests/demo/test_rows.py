"""The made-up tables have the columns of the newest Tautulli version."""

from __future__ import annotations

import pytest

from tautulli_pipeline.demo.rows import (
    EMPTY_MEDIA_INFO,
    EMPTY_METADATA,
    HISTORY_COLUMNS,
    MEDIA_INFO_COLUMNS,
    METADATA_COLUMNS,
)
from tautulli_pipeline_tests.schema_facts import NEWEST_TAG, columns_at

TABLES = {
    "session_history": HISTORY_COLUMNS,
    "session_history_metadata": METADATA_COLUMNS,
    "session_history_media_info": MEDIA_INFO_COLUMNS,
}


@pytest.mark.parametrize("table", TABLES)
def test_the_columns_are_those_of_the_newest_version(table):
    newest = {column.name for column in columns_at(NEWEST_TAG)[table]}
    assert set(TABLES[table]) == newest
    assert len(TABLES[table]) == len(newest)


def test_missing_values_are_empty_text_except_for_flags_and_markers():
    empty = EMPTY_METADATA | EMPTY_MEDIA_INFO
    others = {name: value for name, value in empty.items() if value != ""}
    assert set(others.values()) == {0, None}
    assert {name for name, value in others.items() if value is None} == {
        *("marker_credits_first", "marker_credits_final"),
    }
    assert {"live", "subtitles", "synced_version", "optimized_version"} < set(others)
