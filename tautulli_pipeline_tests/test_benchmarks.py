"""What the results say of what was measured, and that the package's own parts are measured."""

import sqlite3
from contextlib import closing

import pytest

from benchmarks import worker
from benchmarks.bars import LARGE, SMALL, judge
from benchmarks.databases import append_rows
from benchmarks.measurements import Measurements, ProcessUse, Recording, Run, StageProfile, What
from benchmarks.report import render, table
from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.events.columns import HISTORY_TABLES
from tautulli_pipeline.orchestration.history import finished_partitions, known_grid
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.source.partitions import Grid

MACHINE = {"cores": "2"}
VERSIONS = {"python": "3.11"}


def run(what, rows, seconds, peak_mib=500.0):
    return Run(what, rows, seconds, {"publisher": ProcessUse(peak_mib, 1.5)})


def verdicts(*runs, recordings=()):
    bars = judge(Measurements(list(runs), list(recordings)))
    return {bar.name: (bar.asked, bar.measured, bar.reached) for bar in bars}


def test_a_table_has_texts_to_the_left_and_figures_to_the_right():
    assert table(["run", "rows"], [["import", "5"]]) == (
        "| run | rows |\n| --- | ---: |\n| import | 5 |"
    )


def test_runs_are_shown_with_their_speed_and_that_of_the_direct_copy():
    measured = Measurements([run(What.DIRECT, 1000, 2), run(What.FIRST, 1000, 8)])
    text = render(measured, MACHINE, VERSIONS)
    assert (
        "| direct copy by DuckDB | - | publisher 500 | publisher 1.5 | 1,000 | 2.0 | 500 | 1.000 |"
        in text
    )
    assert "| import | - | publisher 500 | publisher 1.5 | 1,000 | 8.0 | 125 | 0.250 |" in text


def test_a_run_that_does_not_bring_all_rows_has_no_speed():
    text = render(Measurements([run(What.NOTHING_NEW, 1000, 4)]), MACHINE, VERSIONS)
    assert "| 1,000 | 4.0 | - | - |" in text


def test_parts_that_were_not_measured_have_no_heading():
    text = render(Measurements(), MACHINE, VERSIONS)
    assert "##" not in text
    assert "Machine: cores 2." in text
    assert "Versions: python 3.11." in text


def test_stages_are_shown_per_thousand_rows_and_as_shares():
    profile = StageProfile(2000, {"read": 0.5, "map": 1.5})
    text = render(Measurements(profile=profile), MACHINE, VERSIONS)
    assert "| read | 0.2500 | 25% |\n| map | 0.7500 | 75% |\n| all | 1.0000 | 100% |" in text


def test_dagster_is_shown_as_a_share_of_the_first_import():
    measured = Measurements(
        [run(What.FIRST, 1000, 8)], [Recording(1000, 7, {"opening": 0.5, "the run": 1.5})]
    )
    text = render(measured, MACHINE, VERSIONS)
    assert "| 1,000 | 7 | 0.50 | 1.50 | 25% |" in text


def test_bars_of_sizes_that_were_not_run_are_left_out():
    runs = [run(what, 2000, 1) for what in What if what is not What.DLT]
    assert list(verdicts(*runs)) == ["largest process of any import (publisher)"]


@pytest.mark.parametrize(("seconds", "reached"), [(25, True), (26, False)])
def test_a_large_import_has_a_fifth_of_the_direct_copys_speed(seconds, reached):
    found = verdicts(run(What.DIRECT, LARGE, 5), run(What.FIRST, LARGE, seconds))
    name = "import of 1,000,000 rows, of the direct copy"
    assert found[name] == ("≥ 0.2", f"{5 / seconds:.2f}", reached)


@pytest.mark.parametrize(("seconds", "reached"), [(80, True), (79, False)])
def test_the_adrs_algorithm_takes_eight_times_as_long(seconds, reached):
    found = verdicts(run(What.ADR, SMALL, seconds), run(What.FIRST, SMALL, 10))
    assert found["import of 100,000 rows, of the ADR's algorithm"][2] is reached


def test_dlt_is_judged_at_whatever_size_it_ran():
    found = verdicts(run(What.DLT, 3000, 40), run(What.FIRST, 3000, 2))
    assert found["import of 3,000 rows, of dlt's merge"] == ("≥ 15x", "20.00x", True)


def test_repeated_imports_are_judged_by_their_wall_time():
    found = verdicts(
        run(What.FIRST, LARGE, 100),
        run(What.FRESH, LARGE, 101),
        run(What.NOTHING_NEW, LARGE, 10),
        run(What.APPENDED, LARGE, 14.9),
    )
    assert not found["1,000,000 duplicates, of the first import's speed"][2]
    assert found["nothing new in 1,000,000 rows"] == ("< 10 s", "10.00 s", False)
    assert found["500 new rows after 1,000,000"] == ("< 15 s", "14.90 s", True)


def test_time_and_memory_grow_no_more_than_they_may():
    found = verdicts(run(What.FIRST, SMALL, 10, 400), run(What.FIRST, LARGE, 111, 481))
    assert found["wall time of 1,000,000 rows, of 100,000 rows'"] == ("≤ 11x", "11.10x", False)
    assert not found["peak of publisher at 1,000,000 rows, of that at 100,000"][2]
    assert found["largest process of any import (publisher)"] == ("≤ 600 MiB", "481.00 MiB", True)


def test_memory_of_the_others_is_not_judged():
    assert verdicts(run(What.DIRECT, 2000, 1, 900), run(What.ADR, 2000, 1, 900)) == {}


def test_dagsters_share_is_judged_at_the_large_size():
    recordings = [Recording(LARGE, 500, {"the run": 26.0})]
    found = verdicts(run(What.FIRST, LARGE, 100), recordings=recordings)
    assert found["Dagster's share of 1,000,000 rows"] == ("≤ 25 %", "26.00 %", False)


def test_appended_rows_are_plays_of_their_own(tmp_path):
    path = tmp_path / "tautulli.db"
    make_demo_database(path, 50)
    with closing(sqlite3.connect(path)) as connection:
        before = tables_of(connection)
    append_rows(path, 5)
    with closing(sqlite3.connect(path)) as connection:
        after = tables_of(connection)
    for old, new in zip(before, after, strict=True):
        assert new[:50] == old
        assert len(new) == 55
    ids = [[row[0] for row in rows] for rows in after]
    assert ids[0] == ids[1] == ids[2] == sorted(set(ids[0]))
    last_stop = max(row[3] for row in before[0])
    assert all(row[2] > last_stop for row in after[0][50:])


def tables_of(connection):
    return [
        connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
        for table in HISTORY_TABLES
    ]


@pytest.fixture
def demo(tmp_path):
    path = tmp_path / "tautulli.db"
    make_demo_database(path, 1200)
    return path


def test_dagsters_recording_is_measured_with_every_partition_of_the_database(
    demo, tmp_path, monkeypatch
):
    folder = tmp_path / "recording"
    found, run = worker.measure(worker.RECORDING, demo, folder)
    monkeypatch.setenv("PIPELINE_DATA_DIR", "set by whoever opens the instance")
    with open_instance(folder) as instance:
        recorded = finished_partitions(instance)
        assert known_grid(instance) == Grid(1000)
        (of_the_job,) = instance.get_runs()
    assert found["partitions"] == len(recorded) > 1
    assert of_the_job.job_name == "import_job"
    assert of_the_job.is_success
    assert list(found["seconds"]) == [
        "importing it and the definitions",
        "opening the instance",
        "reading and showing partitions",
        "the run with its materializations",
    ]
    assert 0 < sum(found["seconds"].values()) < run.seconds


def test_every_stage_of_an_import_is_measured_with_every_row(demo, tmp_path):
    found, _ = worker.measure(worker.STAGES, demo, tmp_path / "stages")
    assert found["rows"] == 1200
    stages = {"read", "map", "publish", "fetch", "decode", "dedup", "write", "ack"}
    assert found["cpu_seconds"].keys() == stages
    assert min(found["cpu_seconds"].values()) >= 0
