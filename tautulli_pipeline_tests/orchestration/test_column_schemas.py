"""Column schemas match the actual columns."""

from __future__ import annotations

from contextlib import closing

import dagster as dg

from tautulli_pipeline.definitions import defs
from tautulli_pipeline.events.columns import EVENT_FIELDS
from tautulli_pipeline.warehouse.schema import connect

SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def columns_of(name):
    schema = SPECS[name].metadata["dagster/column_schema"]
    return {column.name: column.type for column in schema.columns}


def test_the_table_schema_matches_the_table(tmp_path):
    with closing(connect(tmp_path / "playback.duckdb", {})) as connection:
        described = connection.execute("DESCRIBE playback_events").fetchall()
    assert columns_of("playback_events") == {name: kind for name, kind, *_ in described}


def test_the_stream_schema_matches_the_event_fields():
    assert columns_of("playback_stream").keys() == EVENT_FIELDS.keys()


def test_every_column_has_its_origin_upstream():
    """Except columns that the mapping or the table adds."""
    upstream = {
        "session_history": "tautulli_database",
        "playback_stream": "session_history",
        "playback_events": "playback_stream",
    }
    own = {
        "session_history": set(),
        "playback_stream": {"source", "server_id", "extra"},
        "playback_events": {
            *("import_id", "stream_id", "stream_sequence"),
            *("payload_hash", "content_hash", "created_at", "restored_at"),
        },
    }
    for name, before in upstream.items():
        lineage = SPECS[name].metadata["dagster/column_lineage"].deps_by_column
        assert columns_of(name).keys() - lineage.keys() == own[name]
        origins = {origin for origins in lineage.values() for origin in origins}
        assert {origin.asset_key for origin in origins} == {dg.AssetKey(before)}
        assert {origin.column_name for origin in origins} <= columns_of(before).keys()


def test_every_asset_has_a_description_group_owner_and_kind():
    for name, spec in SPECS.items():
        assert len(spec.description or "") > 40, name
        is_statistic = name == "report" or name.startswith("analytics/")
        assert (spec.group_name == "tautulli") != is_statistic, name
        assert list(spec.owners) == ["team:tautulli"]
        assert spec.kinds, name
