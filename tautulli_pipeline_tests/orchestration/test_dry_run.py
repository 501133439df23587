"""Dry runs in Dagster report exact counts and publish nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from tautulli_pipeline.definitions import defs
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import imported, nothing_runs
from tautulli_pipeline_tests.folders import content_of
from tautulli_pipeline_tests.holding import held_by_another_process

if TYPE_CHECKING:
    from pathlib import Path

DATABASE, HISTORY, STREAM, TABLE = (
    dg.AssetKey(name)
    for name in ("tautulli_database", "session_history", "playback_stream", "playback_events")
)
KEYS = ["0000000001-0000000010", "0000000011-0000000020", "0000000021-0000000030"]


@pytest.fixture(scope="module")
def imported_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 plays imported in ranges of ten, then a database with changed, missing and new plays."""
    data_dir = tmp_path_factory.mktemp("imported") / "data"
    database = data_dir.with_name("tautulli.db")
    make_database(database, plays=[play(row_id) for row_id in range(1, 26)])
    imported(database, "--batch-size", 10, data_dir=data_dir)
    assert nothing_runs(data_dir)
    database.unlink()
    plays = [play(row_id) for row_id in range(1, 25) if row_id != 17]
    again = play(31, started=1_700_010_000, rating_key=101)  # play 1 under another id
    make_database(database, plays=[*plays, again, play(32), play(33, title="")])
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE session_history SET stopped = stopped + 1 WHERE id = 3")
    return data_dir


def dry_run(job: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORT_DB_PATH", str(data_dir.with_name("tautulli.db")))
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "10")
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    data_dir.mkdir(exist_ok=True)
    with open_instance(data_dir) as instance:
        assert defs.resolve_job_def(job).execute_in_process(instance=instance).success


def last_observation(data_dir: Path, asset: dg.AssetKey) -> dict[str, Any]:
    with open_instance(data_dir) as instance:
        (record,) = instance.fetch_observations(asset, limit=1).records
        assert record.asset_observation is not None
        return {k: v.value for k, v in record.asset_observation.metadata.items()}


def materialized(data_dir: Path, asset: dg.AssetKey) -> list[str | None]:
    with open_instance(data_dir) as instance:
        found = instance.fetch_materializations(asset, limit=100, ascending=True).records
        return [record.partition_key for record in found]


def stored(data_dir: Path) -> dict[str, object]:
    """Return the content of everything that an import would change."""
    folders = [data_dir / name for name in ("nats", "playback.duckdb", "import.json", "receipts")]
    return {folder.name: content_of(folder) for folder in folders}


def test_a_dry_run_counts_plays_lists_ranges_and_marks_changed_ones_as_stale(
    imported_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(imported_dir)
    for _ in range(2):  # a second dry run reports the same and records no change twice
        dry_run("dry_run_job", imported_dir, monkeypatch)
        counts = last_observation(imported_dir, TABLE)
        assert counts.pop("verdict").splitlines()[2:] == [
            "| would be imported | 1 |",
            "| duplicates, same event | 23 |",
            "| duplicates, same item, user and start | 1 |",
            "| rejected, missing title | 1 |",
            "| plays in the database | 26 |",
            "",
            f"compared with {imported_dir / 'playback.duckdb'}",
        ]
        assert counts == {
            "new": 1,
            "duplicate_event_id": 23,
            "duplicate_correlation_key": 0,
            "duplicate_rating_key_user_started": 1,
            "duplicate_guid_user_started": 0,
            "rejected": 1,
            "unreadable": 0,
            "total_records": 26,
            "compared_with_table": True,
        }
        assert last_observation(imported_dir, DATABASE)["due"].splitlines()[2:] == [
            "| new | 1 | 0000000031-0000000040 |",
            f"| changed | 3 | {', '.join(KEYS)} |",
        ]
        assert materialized(imported_dir, STREAM) == KEYS
        # Newer than the published content, so Dagster shows the ranges as unsynced.
        assert materialized(imported_dir, HISTORY) == [*KEYS, *KEYS]
    assert stored(imported_dir) == before


def test_a_table_held_by_another_process_is_not_read(
    imported_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DUCKDB_PATH", str(tmp_path / "held.duckdb"))
    with held_by_another_process(tmp_path / "held.duckdb") as process_id:
        dry_run("dry_run_job", imported_dir, monkeypatch)
    counts = last_observation(imported_dir, TABLE)
    assert (counts["compared_with_table"], counts["new"], counts["rejected"]) == (False, 24, 1)
    assert f"process {process_id} " in counts["verdict"]
    assert "the plays were compared only with each other" in counts["verdict"]


def test_import_job_publishes_nothing_with_import_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORT_DRY_RUN", "true")
    data_dir = tmp_path / "data"
    make_database(tmp_path / "tautulli.db", plays=[play(row_id) for row_id in range(1, 26)])
    dry_run("import_job", data_dir, monkeypatch)
    assert last_observation(data_dir, TABLE)["new"] == 25
    assert last_observation(data_dir, DATABASE)["due"].splitlines()[2:] == [
        f"| new | 3 | {', '.join(KEYS)} |"
    ]
    assert (materialized(data_dir, HISTORY), materialized(data_dir, STREAM)) == ([], [])
    assert set(stored(data_dir).values()) == {None}
