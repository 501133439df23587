"""Tests the report of the benchmarks, their targets, and the measurements of our own code."""

import sqlite3
from contextlib import closing
from importlib.metadata import version

import pytest

from benchmarks import worker
from benchmarks.databases import append_rows
from benchmarks.machine import versions
from benchmarks.measurements import Measurements, ProcessUse, Recording, Run, RunKind, StageProfile
from benchmarks.report import render, table
from benchmarks.targets import LARGE, SMALL, judge
from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.events.columns import HISTORY_TABLES
from tautulli_pipeline.orchestration.history import DagsterHistory
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.source.partitions import Grid

MACHINE = {"cores": "2"}
VERSIONS = {"python": "3.11"}


def run(kind, rows, seconds, peak_mib=500.0):
    return Run(kind, rows, seconds, {"publisher": ProcessUse(peak_mib, 1.5)})


def verdicts(*runs, recordings=()):
    targets = judge(Measurements(list(runs), list(recordings)))
    return {t.name: (t.required, t.measured, t.met) for t in targets}


def test_a_table_aligns_text_left_and_figures_right():
    assert table(["run", "rows"], [["import", "5"]]) == (
        "| run | rows |\n| --- | ---: |\n| import | 5 |"
    )


def test_runs_are_shown_with_their_speed_and_the_ratio_to_the_direct_copy():
    measured = Measurements([run(RunKind.DIRECT, 1000, 2), run(RunKind.FIRST, 1000, 8)])
    text = render(measured, MACHINE, VERSIONS)
    assert (
        "| direct copy by DuckDB | - | publisher 500 | publisher 1.5 | 1,000 | 2.0 | 500 | 1.000 |"
        in text
    )
    assert "| import | - | publisher 500 | publisher 1.5 | 1,000 | 8.0 | 125 | 0.250 |" in text


def test_a_run_that_does_not_load_all_rows_has_no_speed():
    text = render(Measurements([run(RunKind.NOTHING_NEW, 1000, 4)]), MACHINE, VERSIONS)
    assert "| 1,000 | 4.0 | - | - |" in text


def test_unmeasured_parts_have_no_heading():
    text = render(Measurements(), MACHINE, VERSIONS)
    assert "##" not in text
    assert "Machine: cores 2." in text
    assert "Versions: python 3.11." in text


def test_results_name_the_version_that_was_measured():
    assert versions()["tautulli-pipeline"] == version("tautulli-pipeline")


def test_stages_are_shown_per_thousand_rows_and_as_shares():
    profile = StageProfile(2000, {"read": 0.5, "map": 1.5})
    text = render(Measurements(profile=profile), MACHINE, VERSIONS)
    assert "| read | 0.2500 | 25% |\n| map | 0.7500 | 75% |\n| total | 1.0000 | 100% |" in text


def test_dagster_is_shown_as_a_share_of_the_first_import():
    measured = Measurements(
        [run(RunKind.FIRST, 1000, 8)], [Recording(1000, 7, {"opening": 0.5, "the run": 1.5})]
    )
    text = render(measured, MACHINE, VERSIONS)
    assert "| 1,000 | 7 | 0.50 | 1.50 | 25% |" in text


def test_targets_without_measurements_are_left_out():
    runs = [run(kind, 2000, 1) for kind in RunKind if kind is not RunKind.DLT]
    assert list(verdicts(*runs)) == ["peak memory of the largest import process (publisher)"]


@pytest.mark.parametrize(("seconds", "met"), [(25, True), (26, False)])
def test_a_large_import_must_have_a_fifth_of_the_direct_copys_speed(seconds, met):
    found = verdicts(run(RunKind.DIRECT, LARGE, 5), run(RunKind.FIRST, LARGE, seconds))
    name = "1,000,000 rows: speed relative to the direct copy"
    assert found[name] == ("≥ 0.2", f"{5 / seconds:.2f}", met)


@pytest.mark.parametrize(("seconds", "met"), [(80, True), (79, False)])
def test_an_import_must_be_eight_times_as_fast_as_the_adrs_algorithm(seconds, met):
    found = verdicts(run(RunKind.ADR, SMALL, seconds), run(RunKind.FIRST, SMALL, 10))
    assert found["100,000 rows: speedup over the ADR's algorithm"][2] is met


def test_dlt_is_compared_at_the_size_it_ran():
    found = verdicts(run(RunKind.DLT, 3000, 40), run(RunKind.FIRST, 3000, 2))
    assert found["3,000 rows: speedup over dlt's merge"] == ("≥ 15x", "20.00x", True)


def test_repeated_imports_are_judged_by_their_wall_time():
    found = verdicts(
        run(RunKind.FIRST, LARGE, 100),
        run(RunKind.FRESH, LARGE, 101),
        run(RunKind.NOTHING_NEW, LARGE, 10),
        run(RunKind.APPENDED, LARGE, 14.9),
    )
    assert not found["1,000,000 duplicates: speed relative to the first import"][2]
    assert found["1,000,000 rows, nothing new: wall time"] == ("< 10 s", "10.00 s", False)
    assert found["500 new rows after 1,000,000: wall time"] == ("< 15 s", "14.90 s", True)


def test_growth_of_time_and_memory_is_limited():
    found = verdicts(run(RunKind.FIRST, SMALL, 10, 400), run(RunKind.FIRST, LARGE, 111, 481))
    assert found["wall time of 1,000,000 rows relative to 100,000 rows"] == (
        "≤ 11x",
        "11.10x",
        False,
    )
    assert not found["peak memory of publisher at 1,000,000 rows relative to 100,000"][2]
    assert found["peak memory of the largest import process (publisher)"] == (
        "≤ 600 MiB",
        "481.00 MiB",
        True,
    )


def test_memory_of_other_tools_has_no_target():
    assert verdicts(run(RunKind.DIRECT, 2000, 1, 900), run(RunKind.ADR, 2000, 1, 900)) == {}


def test_dagsters_share_is_judged_at_the_large_size():
    recordings = [Recording(LARGE, 500, {"the run": 26.0})]
    found = verdicts(run(RunKind.FIRST, LARGE, 100), recordings=recordings)
    assert found["Dagster's share of the import of 1,000,000 rows"] == ("≤ 25 %", "26.00 %", False)


def test_appended_rows_are_new_plays(tmp_path):
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


@pytest.mark.slow
def test_dagsters_recording_is_measured_with_every_partition(demo, tmp_path, monkeypatch):
    folder = tmp_path / "recording"
    found, run = worker.measure(worker.RECORDING, demo, folder)
    monkeypatch.setenv("PIPELINE_DATA_DIR", "set by the process that opens the instance")
    with open_instance(folder) as instance:
        recorded = DagsterHistory(instance).finished()
        assert DagsterHistory(instance).grid() == Grid(1000)
        (job_run,) = instance.get_runs()
    assert found["partitions"] == len(recorded) > 1
    assert job_run.job_name == "import_job"
    assert job_run.is_success
    assert list(found["seconds"]) == [
        "loading Dagster and the definitions",
        "opening the instance",
        "reading and registering partitions",
        "the run and its materializations",
    ]
    assert 0 < sum(found["seconds"].values()) < run.seconds


def test_every_stage_of_an_import_is_measured_with_every_row(demo, tmp_path):
    found, _ = worker.measure(worker.STAGES, demo, tmp_path / "stages")
    assert found["rows"] == 1200
    stages = {"read", "map", "publish", "fetch", "decode", "dedup", "write", "ack"}
    assert found["cpu_seconds"].keys() == stages
    assert min(found["cpu_seconds"].values()) >= 0
