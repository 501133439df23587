"""The asset checks after `consume_job`, and the jobs for duplicates and dead letters."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.errors import ImportRunningError, WarehouseError
from tautulli_pipeline.imports.curation import open_for_curation
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import environment, imported, query
from tautulli_pipeline_tests.holding import held_by_another_process

if TYPE_CHECKING:
    from pathlib import Path

# Play 4 repeats play 3, play 5 ends before it starts, play 6 has no title.
PLAYS = [
    *(play(n) for n in range(1, 4)),
    play(4, started=1_700_030_000, rating_key=103),
    play(5, stopped=1_600_000_000),
    play(6, title=""),
]
CHECKS = {
    *("outcomes_add_up", "no_key_twice", "event_ids_recompute"),
    *("no_play_ends_before_it_starts", "consumer_position_matches"),
}
EXECUTE = """
import json, sys
from tautulli_pipeline.definitions import defs
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.settings import load_settings
with open_instance(load_settings().data_dir) as instance:
    for job, config in json.loads(sys.argv[1]):
        assert defs.resolve_job_def(job).execute_in_process(
            instance=instance, run_config=config
        ).success
"""


@pytest.fixture
def imported_dir(database: Path, data_dir: Path) -> Path:
    """A data directory with a finished import."""
    imported(database, data_dir=data_dir)
    return data_dir


def execute(data_dir: Path, *jobs: tuple[str, dict[str, Any]]) -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-c", EXECUTE, json.dumps(jobs)]
    variables = environment(data_dir, IMPORT_DB_PATH=data_dir.with_name("tautulli.db"))
    done = subprocess.run(command, env=variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def evaluations(data_dir: Path) -> dict[str, tuple[bool, str, dict[str, Any]]]:
    """Return the latest result of each check: passed, severity and metadata."""
    latest = {}
    with open_instance(data_dir) as instance:
        for name in CHECKS:
            key = dg.AssetCheckKey(dg.AssetKey("playback_events"), name)
            history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
            for record in history:
                assert record.event is not None
                dagster_event = record.event.dagster_event
                assert dagster_event is not None
                found = dagster_event.asset_check_evaluation_data
                metadata = {name: value.value for name, value in found.metadata.items()}
                latest[name] = (found.passed, found.severity.value, metadata)
    return latest


def test_checks_run_after_consuming_and_list_offending_rows(imported_dir: Path) -> None:
    assert evaluations(imported_dir) == {}  # the command line does not run the checks
    execute(imported_dir, ("consume_job", {}))
    found = evaluations(imported_dir)
    assert found.keys() == CHECKS
    backward = found.pop("no_play_ends_before_it_starts")
    assert backward[:2] == (False, "WARN")
    assert [row["source_row_id"] for row in backward[2]["rows"]] == ["5"]
    assert {passed for passed, _, _ in found.values()} == {True}
    position = found["consumer_position_matches"][2]
    assert (position["stored_position"], position["acked_position"]) == ("5", "5")
    assert position["unacked"] == 0

    with duckdb.connect(imported_dir / "playback.duckdb") as connection:
        connection.execute("DELETE FROM playback_events WHERE source_row_id = 2")
        connection.execute("UPDATE playback_events SET user_id = 3 WHERE source_row_id = 1")
        connection.execute("UPDATE stream_positions SET last_sequence = 4")
    execute(imported_dir, ("consume_job", {}))
    found = evaluations(imported_dir)
    failed = {name: severity for name, (passed, severity, _) in found.items() if not passed}
    assert failed == {
        "outcomes_add_up": "ERROR",
        "event_ids_recompute": "ERROR",
        "no_play_ends_before_it_starts": "WARN",
        "consumer_position_matches": "ERROR",
    }
    (partition,) = found["outcomes_add_up"][2]["rows"]
    assert partition["partition_key"] == "0000000001-0000001000"
    assert (partition["imported"], partition["imported_in_table"]) == ("4", "3")
    (misnamed,) = found["event_ids_recompute"][2]["rows"]
    assert misnamed["source_row_id"] == "1"


@pytest.mark.slow
def test_duplicates_and_dead_letters_are_curated_by_jobs(imported_dir: Path) -> None:
    source = imported_dir.with_name("corrected.db")
    make_database(source, plays=[*PLAYS[:5], play(6)])
    ((duplicate,),) = query(imported_dir, "SELECT id::VARCHAR FROM dedupe_audit_log")
    chosen = {"config": {"ids": [duplicate[:8]]}}
    execute(
        imported_dir,
        ("confirm_duplicates_job", {"ops": {"confirm_decisions": chosen}}),
        ("restore_duplicates_job", {"ops": {"restore_plays": chosen}}),
        ("replay_dead_letters_job", {}),
        (
            "replay_dead_letters_job",
            {
                "ops": {
                    "replay_rejected": {
                        "config": {
                            "database": str(source),
                        }
                    }
                }
            },
        ),
    )
    found = "SELECT source_row_id, restored_at IS NOT NULL FROM playback_events ORDER BY 1"
    restored = {4}
    assert query(imported_dir, found) == [(n, n in restored) for n in range(1, 7)]
    assert query(imported_dir, "SELECT status FROM dedupe_audit_log") == [("user_restored",)]
    assert query(imported_dir, "SELECT closed_by FROM dead_letters") == [("replay",)]


def test_curation_is_refused_while_an_import_or_a_consumer_writes(tmp_path: Path) -> None:
    settings = Settings(pipeline_data_dir=tmp_path)
    with (
        held_by_another_process(settings.warehouse_path) as process_id,
        consumer_lock(settings.layout, settings.warehouse_path),
        pytest.raises(WarehouseError, match=rf"process {process_id} \("),
        open_for_curation(settings, "duplicate", ["1"]),
    ):
        pass
    log, source = ImportLog(tmp_path), tmp_path / "tautulli.db"
    with log.exclusive(source) as claim, consumer_lock(settings.layout, settings.warehouse_path):
        record = ImportRecord(
            "import-1", str(source), False, Status.RUNNING, claim.started_at, claim.process_id
        )
        log.write(record)
        with (
            pytest.raises(ImportRunningError, match=f"process {claim.process_id}, 0"),
            open_for_curation(settings, "duplicate", ["1"]),
        ):
            pass
