"""The `validate` command and `import --dry-run`."""

from __future__ import annotations

import json
import signal
from datetime import datetime

import pytest

from tautulli_pipeline.cli.app import application
from tautulli_pipeline.cli.faults import run_reporting_faults
from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests import command
from tautulli_pipeline_tests.eras import make_database, make_era_database, play
from tautulli_pipeline_tests.holding import held_by_another_process

# Two are new, one is a duplicate, four cannot become events.
PLAYS = [
    *(play(1), play(2), play(3, rating_key=101, started=play(1).history["started"])),
    *(play(4, started=0), play(5, user_id=""), play(6, title=""), play(7, user_id="x")),
]


@pytest.fixture
def run(data_dir, capfd, monkeypatch):
    """Return a function that runs a command in this process.

    It returns the exit code, standard output and standard error.
    """
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        capfd.readouterr()
        exit_code = run_reporting_faults(application, [str(a) for a in arguments])
        return exit_code, *capfd.readouterr()

    return run


def content_of(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_validate_prints_one_json_object_with_these_members(run, database, data_dir):
    exit_code, out, err = run("validate", database, "--json")
    facts = json.loads(out)
    assert (exit_code, err) == (0, "")
    assert list(facts) == [
        *("source", "tautulli_version", "missing_columns", "total_records"),
        *("first_started_at", "last_started_at", "users", "media_types", "live"),
        *("new", "duplicates", "rejected", "rejected_reasons", "warehouse", "event_limit"),
    ]
    assert (facts["new"], facts["duplicates"]["rating_key_user_started"]) == (2, 1)
    assert facts["rejected_reasons"]["user_id is not a 32-bit integer"] == 1
    assert facts["warehouse"]["path"] == str(data_dir / "playback.duckdb")


def test_a_dry_run_prints_the_summary_of_an_import_that_published_nothing(run, database):
    exit_code, out, err = run("import", database, "--dry-run", "--json")
    facts = json.loads(out)
    assert (exit_code, err) == (0, "")
    assert facts.pop("elapsed_seconds") > 0
    assert facts.pop("records_per_second") > 0
    assert facts.pop("import_id")
    assert datetime.fromisoformat(facts.pop("start_time"))
    assert facts.pop("warehouse")["compared"] is True
    assert facts == {
        "status": "completed",
        "dry_run": True,
        "source": str(database),
        "server_id": "default",
        "end_time": None,
        "checked_time": None,
        "progress": 100.0,
        "total_records": 7,
        "unchanged": 0,
        "pending": 0,
        "revised": 0,
        "processed": 7,
        "published": 0,
        "imported": 2,
        "duplicates": {"stream": 0, "cache": 0, "database": 1},
        "rejected": 4,
        "errors": 0,
        "unreadable": [],
        "upgrade_seconds": 0.0,
        "estimated_remaining_seconds": 0.0,
        "last_processed_id": 7,
    }


@pytest.mark.parametrize("arguments", [("validate",), ("import", "--dry-run")])
def test_validate_and_dry_run_write_nothing(run, database, tmp_path, arguments):
    before = content_of(tmp_path)
    assert run(*arguments, database)[0] == 0
    assert content_of(tmp_path) == before


def test_validate_and_dry_run_do_not_touch_the_record_or_lock_of_an_import(run, database, data_dir):
    data_dir.mkdir()
    (data_dir / "import.json").write_text("another import's")
    before = content_of(data_dir)
    assert run("validate", database)[0] == 0
    assert run("import", database, "--dry-run")[0] == 0
    assert content_of(data_dir) == before


def test_the_environment_can_set_the_dry_run_and_the_database(run, database, monkeypatch):
    monkeypatch.setenv("IMPORT_DB_PATH", str(database))
    monkeypatch.setenv("IMPORT_DRY_RUN", "true")
    assert json.loads(run("import", "--json")[1])["dry_run"] is True
    assert json.loads(run("validate", "--json")[1])["source"] == str(database)


@pytest.mark.parametrize("tag", ["v1.0", "v2.17.2"])
def test_text_output_fits_80_columns(run, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "t.db"
    make_era_database(path, tag, rows=30)
    exit_code, out, _ = run("validate", path)
    # Paths are not cut, so that they can be copied.
    assert all(len(line) <= 80 for line in out.splitlines() if str(tmp_path) not in line)
    words = " ".join(out.split())
    assert exit_code == 0
    assert f"Tautulli version {'unknown' if tag == 'v1.0' else tag}" in words
    assert "plays 30" in words
    assert "would be imported" in words
    assert f"compared with {tmp_path / 'data' / 'playback.duckdb'}: there is no table yet" in words
    assert ("more (see --json)" in words) == (tag == "v1.0")


def test_text_output_includes_the_reasons_for_rejection(run, database):
    words = " ".join(run("import", database, "--dry-run")[1].split())
    for line in (
        "would be imported 2",
        "duplicates, same item, user and start 1",
        "rejected, missing start 1",
        "rejected, user_id is not a 32-bit integer 1",
        "plays in the database 7",
    ):
        assert line in words


def test_markup_in_a_version_or_path_is_not_interpreted(run, tmp_path):
    path = tmp_path / "[red]tautulli.db"
    make_database(path, plays=[play(1)], version="v[bold]9")
    out = run("validate", path)[1]
    assert "v[bold]9" in out
    assert str(path) in out


@pytest.mark.parametrize("arguments", [("validate",), ("import", "--dry-run")])
def test_a_bad_source_exits_with_3_and_leaves_nothing_behind(run, tmp_path, arguments):
    bad = tmp_path / "notes.txt"
    bad.write_text("not a database, but long enough to have a header " * 9)
    for path, why in ((bad, "not a SQLite database"), (tmp_path / "none.db", "does not exist")):
        exit_code, out, err = run(*arguments, path, "--json")
        assert exit_code == 3
        assert why in json.loads(out)["error"]
        assert json.loads(out)["hint"]
        assert err.splitlines()[0] == f"tautulli-pipeline: {json.loads(out)['error']}"
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_argument_is_refused(run):
    exit_code, _, err = run("validate")
    assert (exit_code, err.splitlines()[0]) == (2, "tautulli-pipeline: no database given")


def test_without_access_to_the_table_plays_are_compared_only_with_each_other(
    run, database, data_dir
):
    warehouse = data_dir / "playback.duckdb"
    with held_by_another_process(warehouse) as process_id:
        exit_code, out, _ = run("validate", database, "--json")
        exit_code_of_dry_run, text, _ = run("import", database, "--dry-run")
    facts = json.loads(out)
    assert (exit_code, facts["new"], facts["rejected"]) == (0, 2, 4)
    assert facts["warehouse"]["compared"] is False
    assert f"{warehouse}: process {process_id} " in facts["warehouse"]["reason"]
    assert exit_code_of_dry_run == 0
    assert f"process {process_id} " in text
    assert "compared only with each other" in text


def test_ctrl_c_stops_reading_and_deletes_the_copy(tmp_path, data_dir):
    path = tmp_path / "big.db"
    make_demo_database(path, 15_000)
    reading = command.start("validate", path, "--json", data_dir=data_dir)
    command.wait_until(lambda: list(data_dir.glob("snapshots/snapshot-*/tautulli.db")))
    reading.send_signal(signal.SIGINT)
    outcome = command.ended(reading)
    assert (outcome.exit_code, outcome.json["error"]) == (130, "stopped; nothing was written")
    assert not data_dir.exists()
