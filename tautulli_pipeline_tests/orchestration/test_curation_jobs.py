"""Jobs for duplicates and dead letters choose rows like the commands, and count what they did."""

from __future__ import annotations

import pytest

from tautulli_pipeline.definitions import defs
from tautulli_pipeline.warehouse.schema import open_warehouse
from tautulli_pipeline_tests.command import query
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, uuid_of, writer

OPS = {
    "restore_duplicates_job": "restore_plays",
    "confirm_duplicates_job": "confirm_decisions",
    "replay_dead_letters_job": "replay_rejected",
}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def warehouse_dir(data_dir, monkeypatch):
    """A data directory with two duplicates of different reasons, and two dead letters."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    data_dir.mkdir()
    same_event = message(3, event(2, started_at="2024-05-02T00:00:00Z", title="Another"))
    same_item = message(4, event(1, event_id=uuid_of(9), session_key="again"))
    letters = [message(5, event(5, started_at=None)), message(6, event(6, title=None))]
    with open_warehouse(data_dir / "playback.duckdb") as connection:
        kept = [message(1, event(1)), message(2, event(2))]
        for messages in (kept, [same_event, same_item, *letters]):
            writer(connection, entries=0).write(batch(messages))
    return data_dir


def run(instance, job, **config):
    """Run a job in this process; return its log and the metadata of its result."""
    ops = {"ops": {OPS[job]: {"config": config}}} if config else {}
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=QUIET | ops, raise_on_error=False
    )
    log = [entry.user_message for entry in instance.all_logs(result.run_id)]
    outputs = [e.step_output_data.metadata for e in result.all_events if e.is_successful_output]
    return log, {n: v.value for metadata in outputs for n, v in metadata.items()}


def test_duplicates_are_chosen_by_filters_and_counted(warehouse_dir, instance):
    log, found = run(instance, "confirm_duplicates_job", layer="database")
    assert "2 confirmed, 0 already confirmed" in log
    assert (found["confirmed"], found["already_confirmed"]) == (2, 0)
    assert "| together | 2 |" in found["summary"]
    log, found = run(
        instance,
        "restore_duplicates_job",
        reason="rating_key_user_started",
        status="user_confirmed",
    )
    assert "1 restored and verified, 0 already in the table" in log
    ((row_id,),) = query(
        warehouse_dir, "SELECT id::VARCHAR FROM dedupe_audit_log WHERE status = 'user_restored'"
    )
    assert found["rows"].splitlines()[2:] == [f"| {row_id} | restored and verified |"]
    _, found = run(instance, "restore_duplicates_job", import_id="another")
    assert (found["restored_and_verified"], found["already_in_the_table"]) == (0, 0)
    assert query(warehouse_dir, "SELECT count(*) FROM playback_events") == [(3,)]


def test_dead_letters_are_chosen_by_filters_and_counted(warehouse_dir, instance):
    log, found = run(instance, "replay_dead_letters_job", reason="missing title")
    assert "0 imported, 0 already in the table, 1 still dead letters" in log
    assert found["rows"].splitlines()[2].endswith("| missing title |")
    _, found = run(instance, "replay_dead_letters_job")
    assert found["still_dead_letters"] == 2
    _, found = run(instance, "replay_dead_letters_job", origin="session_history")
    assert found["still_dead_letters"] == 0


@pytest.mark.parametrize(
    ("job", "config", "message"),
    [
        ("restore_duplicates_job", {}, "no duplicates are chosen; fill in `ids`"),
        (
            "confirm_duplicates_job",
            {"ids": ["1"], "layer": "cache"},
            "`ids` cannot be combined with filters",
        ),
        (
            "replay_dead_letters_job",
            {"ids": ["1"], "origin": "x"},
            "`ids` cannot be combined with filters",
        ),
        ("confirm_duplicates_job", {"ids": ["zz"]}, "there is no duplicate with the id 'zz'"),
    ],
)
@pytest.mark.usefixtures("warehouse_dir")
def test_a_wrong_choice_fails_with_one_line(instance, job, config, message):
    log, found = run(instance, job, **config)
    assert found == {}
    assert any(line.replace(". ", "; ").startswith(message) for line in log)


def test_launchpads_describe_every_option_of_every_job():
    for job in defs.resolve_all_job_defs():
        ops = job.run_config_schema.config_type.fields["ops"].config_type.fields
        for op in ops.values():
            config = op.config_type.fields.get("config")
            options = getattr(config and config.config_type, "fields", {})
            undescribed = [name for name, option in options.items() if not option.description]
            required = [name for name, option in options.items() if option.is_required]
            assert (job.name, undescribed, required) == (job.name, [], [])


def test_every_definition_has_a_description():
    jobs = [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]
    described = {d.name: d.description for d in [*jobs, *defs.sensors, *defs.schedules]}
    described |= {name: resource.description for name, resource in defs.resources.items()}
    described |= {
        spec.key.to_user_string(): spec.description for spec in defs.resolve_all_asset_specs()
    }
    assert [name for name, text in described.items() if not text] == []
