from __future__ import annotations

import duckdb

from tautulli_pipeline.events.columns import COMPUTED, COPIED, EVENT_FIELDS
from tautulli_pipeline.events.mapping import Cells
from tautulli_pipeline.warehouse.decoder import CONTENT_COLUMNS
from tautulli_pipeline.warehouse.schema import migrate
from tautulli_pipeline_tests.eras import TAGS
from tautulli_pipeline_tests.events.mapped import TABLES
from tautulli_pipeline_tests.schema_facts import columns_at

BOOKKEEPING = {
    "import_id": "VARCHAR",
    "stream_id": "VARCHAR",
    "stream_sequence": "BIGINT",
    "payload_hash": "UBIGINT",
    "content_hash": "UBIGINT",
    "created_at": "TIMESTAMP",
    "restored_at": "TIMESTAMP",
}
RESHAPED = {"id": "source_row_id", "started": "started_at", "stopped": "stopped_at"}
TYPES = {"INTEGER": {"BIGINT", "INTEGER", "BOOLEAN"}, "TEXT": {"VARCHAR"}}
# INTEGER columns whose values are identifiers, not numbers.
NAMED_BY_NUMBER = {"rating_key", "parent_rating_key", "grandparent_rating_key"}


def columns_of_any_version():
    """Return every column of the history tables in any version."""
    return {(t, c) for tag in TAGS for t in TABLES for c in columns_at(tag).get(t, ())}


def test_the_table_has_all_event_and_bookkeeping_columns():
    with duckdb.connect() as connection:
        migrate(connection)
        table = connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE table_name = 'playback_events' ORDER BY column_index"
        ).fetchall()
    fields = {n: t for n, t in EVENT_FIELDS.items() if n != "event_id"}
    assert dict(table) == {"id": "UUID"} | fields | BOOKKEEPING
    assert len(table) == len(dict(table))


def test_no_column_is_listed_twice():
    names = [column.name for column in COPIED]
    sources = [column.source for column in COPIED]
    assert len(set(names)) == len(names)
    assert len(set(sources)) == len(sources)
    assert not set(names) & {*COMPUTED, *BOOKKEEPING, "id", "extra"}
    assert set(CONTENT_COLUMNS) == EVENT_FIELDS.keys() - {"event_id"}


def test_every_column_of_any_version_is_mapped():
    fields = {c.source: c.name for c in COPIED} | RESHAPED
    assert {column.name for _, column in columns_of_any_version()} - fields.keys() == set()
    assert set(fields.values()) <= EVENT_FIELDS.keys()
    newest = {t: [c.name for c in columns_at(TAGS[-1])[t]] for t in TABLES}
    duplicates = {name for name, _, owner in Cells(newest).unmapped() if owner}
    assert [name for name, _, owner in Cells(newest).unmapped() if not owner] == []
    assert {name.split(".")[1] for name in duplicates} == {
        *("rating_key", "parent_rating_key", "grandparent_rating_key", "media_type", "duration")
    }


def test_every_column_has_a_suitable_type():
    fields = {c.source: c for c in COPIED}
    for _, column in columns_of_any_version():
        if column.name in fields and column.declared_type and column.name not in NAMED_BY_NUMBER:
            assert fields[column.name].type in TYPES[column.declared_type], column.name
    assert {fields[name].type for name in NAMED_BY_NUMBER} == {"VARCHAR"}


def test_only_subtitle_decision_is_in_no_tautulli_version():
    assert {c.source for c in COPIED} - {c.name for _, c in columns_of_any_version()} == {
        "subtitle_decision"
    }
