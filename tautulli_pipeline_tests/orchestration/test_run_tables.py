"""Metadata of run events: figures for machines and Markdown tables for people."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.events.columns import HISTORY_TABLES
from tautulli_pipeline.imports.receipts import ROWS, Receipt
from tautulli_pipeline.imports.record import ImportRecord, Outcomes
from tautulli_pipeline.orchestration.run_tables import (
    arrival_metadata,
    chart_of_plays,
    history_metadata,
    import_metadata,
    ranges_table,
    source_metadata,
    stream_metadata,
    table,
)
from tautulli_pipeline.source.damage import Damage
from tautulli_pipeline.source.opening import OpenSource, open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.salvage import Salvage
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline_tests.cases import DEFAULT_STARTED_AT, make_database, play

PARTITION, SECOND = Grid(10).partition_of(1), Grid(10).partition_of(11)
CONTENT = PartitionContent(PARTITION, 5, "digest", (1_700_000_000, 1_700_086_400))
WAREHOUSE = Path("/data/playback.duckdb")
ENDS = ("first", "last")
ARRIVALS = Arrivals(
    stored=1_234,
    months=(("2024-01", 1_200), ("2024-02", 34)),
    span=(datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 2, 3, 4, 5, 6)),
    discarded=(("cache", "event_id", 2), ("database", "a_new_reason", 1_000)),
    dead_letters=3,
    row_count=56_789,
)
RECORD = replace(
    ImportRecord.begin(Path("/media/tautulli.db"), "default", fresh=False),
    total_records=1_234,
    unchanged=1_500,
    elapsed_seconds=2.5,
    outcomes=Outcomes(imported=1_200, duplicates_database=30, rejected=4),
)
TWO_MONTHS = [("2024-01", 60), ("2024-03", 15)]


def receipt(*rows, seconds=0.0):
    """Return a receipt of rows given as (id, outcome)."""
    lines = [{"source_row_id": row_id, "outcome": outcome} for row_id, outcome in rows]
    moment = datetime(2026, 1, 2)
    whole = pa.Table.from_pylist(lines, schema=ROWS)
    return Receipt("import-1", PARTITION.key, "default", moment, whole, 17, seconds)


def plain(metadata):
    """Return the plain values of Dagster metadata."""
    return {name: getattr(value, "value", value) for name, value in metadata.items()}


def cells_of(markdown):
    """Return the body rows of a Markdown table as lists of cells."""
    return [[c.strip() for c in line.strip("| ").split(" | ")] for line in markdown.split("\n")[2:]]


def test_a_table_has_a_header_and_thousands_separators():
    assert table([("plays", 1_234_567), ("seconds", "0.5")], ("this run", "")).split("\n") == [
        "| this run |  |",
        "|:--|--:|",
        "| plays | 1,234,567 |",
        "| seconds | 0.5 |",
    ]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text("abc ", min_size=1), st.integers()), max_size=5))
def test_a_table_shows_the_full_number_of_every_row(rows):
    shown = table(rows, ("a", "b")).split("\n")
    assert len(shown) == 2 + len(rows)
    numbers = [int(line.split(" | ")[1].strip("| ").replace(",", "")) for line in shown[2:]]
    assert numbers == [number for _, number in rows]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    database = tmp_path_factory.mktemp("source") / "tautulli.db"
    plays = [play(n, user_id=n % 3) for n in (1, 2, 3, 11, 12)] + [play(13, started=0)]
    make_database(database, plays=plays, version="v2.17.2")
    return database


def described(database, folder):
    """Return the metadata of a database with partitions of ten ids."""
    with open_source(database, folder / "snapshots") as source:
        return source_metadata(source, source.survey(None, 10))


def test_source_metadata_describes_the_file(database, tmp_path):
    facts = plain(described(database, tmp_path))
    assert (facts["path"], facts["tautulli_version"]) == (str(database), "v2.17.2")
    assert facts["size_bytes"] == database.stat().st_size
    assert (facts["dagster/row_count"], facts["users"], facts["partitions"]) == (6, 4, 2)
    assert (facts["first_id"], facts["last_id"]) == (1, 13)
    # A play without a start does not count.
    first, last = (DEFAULT_STARTED_AT + 10_000 * n for n in (1, 12))
    assert (facts["first_play"], facts["last_play"]) == (first, last)
    assert "unreadable" not in facts


def test_source_metadata_lists_every_column(database, tmp_path):
    columns = described(database, tmp_path)["dagster/column_schema"].columns
    names = [column.name for column in columns]
    assert {name.split(".")[0] for name in names} == set(HISTORY_TABLES)
    assert {"session_history.started", "session_history_metadata.title"} <= set(names)


def test_an_empty_source_has_no_ids_or_dates(tmp_path):
    make_database(tmp_path / "tautulli.db", version=None)
    facts = plain(described(tmp_path / "tautulli.db", tmp_path))
    assert (facts["tautulli_version"], facts["dagster/row_count"], facts["users"]) == (
        *("unknown", 0, 0),
    )
    assert not {"first_id", "last_id", "first_play", "last_play"} & facts.keys()


def test_source_metadata_lists_unreadable_parts(database, tmp_path):
    lost = Salvage((Damage("session_history", (7,), ((7, 7),), "page 2 is torn"),), (7,))
    with open_source(database, tmp_path / "snapshots") as source:
        damaged = OpenSource(lambda: replace(source.copied, salvage=lost))
        metadata = source_metadata(damaged, source.survey(None, 10))
    assert plain(metadata)["unreadable"] == ["1 row of session_history, id 7 (page 2 is torn)"]


def test_a_range_counts_the_outcomes_of_its_rows():
    outcomes = ("published", "published", "duplicate", "rejected", "unreadable")
    rows = list(enumerate(outcomes, start=2))
    facts = plain(stream_metadata(receipt(*rows, seconds=0.5), CONTENT))
    assert (facts["published"], facts["duplicate_acks"]) == (2, 1)
    assert (facts["rejected"], facts["unreadable"]) == (1, 1)
    assert facts["rows_read"] == 4  # without the unreadable row
    assert (facts["seconds"], facts["rows_per_second"]) == (0.5, 8)
    assert (facts["first_id"], facts["last_id"]) == (2, 6)
    assert facts["last_stream_sequence"] == 17
    assert plain(history_metadata(receipt(*rows), CONTENT))["dagster/partition_row_count"] == 5


def test_a_range_that_took_no_time_has_a_rate_of_zero():
    facts = plain(stream_metadata(receipt((1, "published")), CONTENT))
    assert (facts["seconds"], facts["rows_per_second"]) == (0.0, 0)


@pytest.mark.parametrize("rows", [(), ((None, "rejected"),)])
def test_a_range_without_ids_and_starts_omits_both(rows):
    made, content = receipt(*rows), replace(CONTENT, started=None)
    for facts in (stream_metadata(made, content), history_metadata(made, content)):
        assert not {"first_id", "last_id", "first_play", "last_play"} & facts.keys()


def test_a_row_without_an_id_does_not_hide_the_ids_of_its_range():
    facts = plain(history_metadata(receipt((None, "rejected"), (4, "published")), CONTENT))
    assert (facts["first_id"], facts["last_id"]) == (4, 4)
    assert facts["dagster/partition_row_count"] == 2


def test_a_run_is_summarized_by_the_outcomes_of_its_import():
    found = import_metadata(RECORD, 2)
    assert found["import_id"] == RECORD.import_id
    assert cells_of(found["summary"].value) == [
        ["imported", "1,200"],
        ["duplicates already in the table", "30"],
        ["rejected", "4"],
        ["plays in this import", "1,234"],
        ["unchanged since an earlier import", "1,500"],
        ["ranges published by this run", "2"],
        ["seconds", "2.5"],
    ]


def test_a_run_that_published_nothing_imported_nothing():
    record = replace(RECORD, total_records=0, outcomes=Outcomes())
    counts = dict(cells_of(import_metadata(record, 0)["summary"].value))
    assert counts == {
        "imported": "0",
        "plays in this import": "0",
        "unchanged since an earlier import": "1,500",
        "ranges published by this run": "0",
        "seconds": "2.5",
    }


def test_arrivals_are_counted_by_layer_and_reason():
    found = arrival_metadata(ARRIVALS, WAREHOUSE)
    assert cells_of(found["summary"].value) == [
        ["imported", "1,234"],
        ["duplicates, same event (cache)", "2"],
        ["duplicates, a_new_reason (database)", "1,000"],
        ["dead letters", "3"],
        ["plays in the table", "56,789"],
    ]
    assert (found["dagster/row_count"], found["inserted"]) == (56_789, 1_234)
    assert found["path"].path == "/data/playback.duckdb"
    first, last = (datetime.fromtimestamp(found[f"{name}_play"].value, UTC) for name in ENDS)
    assert (f"{first:%F %T}", f"{last:%F %T}") == ("2024-01-02 03:04:05", "2024-02-03 04:05:06")


def test_an_empty_table_has_no_first_and_last_play():
    found = arrival_metadata(Arrivals(0, (), None, (), 0, 10), WAREHOUSE)
    assert (found["inserted"], found["dagster/row_count"]) == (0, 10)
    assert not {"first_play", "last_play"} & found.keys()


def test_arrivals_are_charted_by_month():
    shown = arrival_metadata(ARRIVALS, WAREHOUSE)["plays_by_month"].value
    assert "| 2024-01 | 1,200 |" in shown


def test_ranges_are_listed_by_kind_of_change():
    listed = ranges_table(["a"], [], ["b", "c"])
    assert cells_of(listed) == [["new", "1", "a"], ["no longer in the source", "2", "b, c"]]
    assert ranges_table([], [], []) == "No range has changed since it was published."


def test_a_long_list_of_ranges_is_shortened_but_counted_in_full():
    keys = [f"k{n}" for n in range(1_234)]
    ((kind, count, named),) = cells_of(ranges_table([], keys, []))
    assert (kind, count) == ("changed", "1,234")
    assert named == f"{', '.join(keys[:20])} ..."
    ((_, _, exactly),) = cells_of(ranges_table([], keys[:20], []))
    assert exactly == ", ".join(keys[:20])


def test_dagster_accepts_the_metadata(database, tmp_path):
    accepted = [
        described(database, tmp_path),
        history_metadata(receipt((1, "published")), CONTENT),
        stream_metadata(receipt((1, "published")), CONTENT),
        import_metadata(RECORD, 0),
        arrival_metadata(ARRIVALS, WAREHOUSE),
    ]
    for metadata in accepted:
        observation = dg.AssetObservation("asset", metadata=metadata)
        assert observation.metadata.keys() == metadata.keys()


def test_each_month_has_a_bar_for_its_plays():
    assert chart_of_plays(TWO_MONTHS).splitlines() == [
        "| month | plays | |",
        "|:--|--:|:--|",
        f"| 2024-01 | 60 | {'█' * 20} |",
        f"| 2024-03 | 15 | {'█' * 5} |",
    ]


def test_a_long_history_is_charted_by_year():
    many = [(f"{2000 + n // 12}-{n % 12 + 1:02d}", 100) for n in range(48)]
    assert chart_of_plays(many).splitlines()[2:] == [
        f"| {year} | 1,200 | {'█' * 20} |" for year in range(2000, 2004)
    ]
    assert chart_of_plays(many[:18]).startswith("| month |")


def test_a_chart_is_short_enough_for_dagster_to_show_it():
    many = [(f"{1970 + n // 12}-{n % 12 + 1:02d}", 10_000_000) for n in range(60 * 12)]
    for months in (many, many[:18], many[: 18 * 12]):
        assert len(chart_of_plays(months)) < 1_000
    assert chart_of_plays(many).splitlines()[-1].startswith("| 2029 | 120,000,000 |")


def test_no_plays_are_charted_as_text():
    assert chart_of_plays([]) == "No plays."
