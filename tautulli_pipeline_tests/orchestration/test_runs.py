"""Imports as Dagster shows them, and imports that Dagster runs without the command line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.definitions import defs
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline_tests.cases import DEFAULT_STARTED_AT, play
from tautulli_pipeline_tests.command import environment, imported, outcomes, query, run

if TYPE_CHECKING:
    from pathlib import Path

HISTORY, STREAM, TABLE = (
    dg.AssetKey(name) for name in ("session_history", "playback_stream", "playback_events")
)
# Three partitions: 10, 10 and 5 plays, one of them without a title.
PLAYS = [play(row_id) for row_id in range(1, 25)] + [play(25, title="")]
KEYS = ["0000000001-0000000010", "0000000011-0000000020", "0000000021-0000000030"]

# Runs a job as the UI and the daemon do: unchanged definitions, settings from the environment.
EXECUTE = """
import os, sys
from pathlib import Path
from tautulli_pipeline.definitions import defs
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.data_dir.directory import make_data_dir
from tautulli_pipeline.settings import load_settings
make_data_dir(load_settings())
job, *tags = sys.argv[1:]
with open_instance(load_settings().data_dir) as instance:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance, tags=dict(tag.split("=") for tag in tags)
    )
    assert result.success
"""

REPORTED = ("plays", "binges", "streams_by_day", "bandwidth_by_hour", "about")


def execute(job: str, *tags: str, data_dir: Path, database: Path) -> None:
    variables = environment(data_dir, IMPORT_DB_PATH=database, IMPORT_BATCH_SIZE=10)
    command = [sys.executable, "-W", "error::UserWarning", "-c", EXECUTE, job, *tags]
    done = subprocess.run(command, env=variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def materializations(data_dir: Path, asset: dg.AssetKey) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the partition and metadata of each materialization, oldest first."""
    with open_instance(data_dir) as instance:
        records = instance.fetch_materializations(asset, limit=100, ascending=True).records
        return [
            (r.partition_key, {k: v.value for k, v in r.asset_materialization.metadata.items()})
            for r in records
            if r.asset_materialization is not None
        ]


def runs(data_dir: Path) -> list[tuple[str, str]]:
    with open_instance(data_dir) as instance:
        return sorted((found.job_name, found.status.value) for found in instance.get_runs())


def test_dagster_shows_an_import_of_the_command_line(database: Path, data_dir: Path) -> None:
    summary = imported(database, "--batch-size", 10, data_dir=data_dir)
    spans = [
        {
            "first_id": first,
            "last_id": last,
            "first_play": DEFAULT_STARTED_AT + 10_000 * first,
            "last_play": DEFAULT_STARTED_AT + 10_000 * last,
        }
        for first, last in ((1, 10), (11, 20), (21, 25))
    ]
    counts = [
        {"dagster/partition_row_count": read, **span}
        for read, span in zip((10, 10, 5), spans, strict=True)
    ]
    assert materializations(data_dir, HISTORY) == list(zip(KEYS, counts, strict=True))
    published = [
        {
            "rows_read": read,
            "published": read - rejected,
            "duplicate_acks": 0,
            "rejected": rejected,
            "unreadable": 0,
            "import_id": summary["import_id"],
            "last_stream_sequence": last,
            **span,
        }
        for (read, rejected, last), span in zip(
            ((10, 0, 10), (10, 0, 20), (5, 1, 24)), spans, strict=True
        )
    ]
    streamed = materializations(data_dir, STREAM)
    for (_, facts), read in zip(streamed, (10, 10, 5), strict=True):
        seconds, rate = facts.pop("seconds"), facts.pop("rows_per_second")
        assert 0 < seconds < 60
        assert abs(read / seconds - rate) < 0.1 * rate + 1
    assert streamed == list(zip(KEYS, published, strict=True))
    ((_, table),) = materializations(data_dir, TABLE)
    assert (table["dagster/row_count"], table["inserted"]) == (24, 24)
    assert table["first_play"] == DEFAULT_STARTED_AT + 10_000
    assert table["summary"].splitlines()[2:] == [
        "| imported | 24 |",
        "| dead letters | 1 |",
        "| plays in the table | 24 |",
    ]
    assert table["plays_by_month"].splitlines()[2:] == [f"| 2023-11 | 24 | {'█' * 20} |"]
    assert runs(data_dir) == [("consume_job", "SUCCESS"), ("import_job", "SUCCESS")]
    with open_instance(data_dir) as instance:
        assert instance.get_dynamic_partitions("history_ranges") == KEYS


def test_dagster_imports_and_consumes_without_the_command_line(
    database: Path, data_dir: Path
) -> None:
    execute("import_job", data_dir=data_dir, database=database)
    done = run("status", "--json", data_dir=data_dir).json
    assert (done["status"], done["imported"], done["rejected"]) == ("completed", 24, 1)
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(24,)]
    assert materializations(data_dir, TABLE) == []
    # The next `consume_job` records the rows that the import stored.
    execute("consume_job", data_dir=data_dir, database=database)
    ((_, table),) = materializations(data_dir, TABLE)
    assert table["plays_by_month"].splitlines()[2:] == [f"| 2023-11 | 24 | {'█' * 20} |"]
    assert table["inserted"] == 24
    assert query(data_dir, "SELECT source_row_id FROM dead_letters") == [(25,)]
    # The command line finds nothing left to do.
    assert imported(database, data_dir=data_dir)["unchanged"] == 25


@pytest.mark.slow
def test_a_partition_range_publishes_only_its_partitions(database: Path, data_dir: Path) -> None:
    imported(database, "--batch-size", 10, data_dir=data_dir)
    execute(
        "import_job",
        f"dagster/asset_partition_range_start={KEYS[1]}",
        f"dagster/asset_partition_range_end={KEYS[2]}",
        data_dir=data_dir,
        database=database,
    )
    assert [key for key, _ in materializations(data_dir, STREAM)] == [*KEYS, *KEYS[1:]]
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(24,)]
    # A repeat is counted and leaves no row.
    assert query(data_dir, "SELECT count(*) FROM dedupe_audit_log") == [(0,)]
    chosen = run("status", "--json", data_dir=data_dir).json
    counts = {"total_records": 15, "processed": 15, "unchanged": 10, "database": 14, "rejected": 1}
    assert (chosen["status"], outcomes(chosen)) == ("completed", counts)


def test_the_definitions_load_without_warnings() -> None:
    loading = (
        "from tautulli_pipeline.definitions import defs; print(len(defs.resolve_all_asset_specs()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", loading],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{5 + len(TABLES)}\n", "")


def test_the_asset_graph_is_source_history_stream_table() -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    graph = {
        name: (
            [dependency.asset_key.to_user_string() for dependency in spec.deps],
            spec.partitions_def.name if spec.partitions_def else None,
        )
        for name, spec in specs.items()
    }
    assert graph == {
        "tautulli_database": ([], None),
        "session_history": (["tautulli_database"], "history_ranges"),
        "playback_stream": (["session_history"], "history_ranges"),
        "playback_events": (["playback_stream"], None),
        "report": ([f"analytics/{name}" for name in REPORTED], None),
        "analytics/plays": (["playback_events"], None),
        "analytics/completion_by_item": (["analytics/completion"], None),
        "analytics/year_in_review": (["analytics/plays", "analytics/binges"], None),
    } | {
        f"analytics/{table.name}": (["analytics/plays"], None)
        for table in TABLES
        if table.built_from == ("plays",)
    }
    assert {"import_job", "consume_job"} <= {job.name for job in defs.jobs or []}
