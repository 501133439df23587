"""What is in a data directory is private to its owner, and copies of the source do not stay."""

from __future__ import annotations

import fcntl
import stat
from contextlib import contextmanager

import pytest

from tautulli_pipeline.source.private_folder import private_folder
from tautulli_pipeline_tests.command import nothing_runs, run, run_process, wait_until

COMMANDS = [
    *(["status"], ["stop"], ["reset"], ["duplicates", "list"], ["dead-letters", "list"]),
    *(["dead-letters", "replay"], ["duplicates", "show", "x"], ["import", "missing.db"]),
    ["validate", "missing.db"],
]


@pytest.fixture
def open_dir(tmp_path):
    """A folder that existed before and that everybody can read."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def exposed(folder):
    """Return the files that other users can reach and read, below an open folder."""
    wait_until(lambda: nothing_runs(folder))  # the server removes its files as it ends
    others = stat.S_IRWXG | stat.S_IRWXO
    return [path.name for path in folder.iterdir() if path.lstat().st_mode & others]


@contextmanager
def left_by_a_killed_process(data_dir):
    snapshots = data_dir / "snapshots"
    folder = snapshots / "snapshot-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "tautulli.db").write_bytes(b"tokens")
    (snapshots / f"{folder.name}.lock").touch()
    with private_folder(snapshots) as in_use:
        yield folder, in_use


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_removes_the_copies_of_dead_owners(tmp_path, command):
    data_dir = tmp_path / "data"
    with left_by_a_killed_process(data_dir) as (left, in_use):
        run(*command, data_dir=data_dir)
        assert not left.exists()
        assert in_use.exists()
        assert {path.name for path in in_use.parent.iterdir()} == {
            in_use.name,
            f"{in_use.name}.lock",
        }


def test_a_copy_that_cannot_be_removed_is_reported_and_stops_nothing(tmp_path, monkeypatch):
    data_dir = tmp_path / "data"

    def fail(*_arguments):
        raise PermissionError(13, "Permission denied")

    with left_by_a_killed_process(data_dir):
        monkeypatch.setattr(fcntl, "flock", fail)
        outcome = run("status", data_dir=data_dir)
        monkeypatch.undo()
    assert outcome.exit_code == 0
    assert "cannot delete the stale copy" in outcome.stderr


def test_everything_in_a_folder_that_others_can_read_is_private(open_dir, database):
    warehouse = open_dir.parent / "plays.duckdb"
    outcome = run_process("import", database, data_dir=open_dir, DUCKDB_PATH=warehouse)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert exposed(open_dir) == []
    assert stat.S_IMODE(warehouse.stat().st_mode) == 0o600
    assert stat.S_IMODE(open_dir.stat().st_mode) == 0o755


def test_files_of_an_earlier_version_become_private_and_others_stay(open_dir, database):
    assert run_process("import", database, data_dir=open_dir).exit_code == 0
    ours = [open_dir / name for name in ("playback.duckdb", "history", "log", "import.json")]
    foreign = open_dir / "notes.txt"
    foreign.touch()
    for path in (*ours, foreign):
        path.chmod(0o755)
    assert run_process("import", database, data_dir=open_dir).exit_code == 0
    assert exposed(open_dir) == ["notes.txt"]


def test_a_warehouse_elsewhere_that_others_can_read_is_named_and_not_changed(open_dir, database):
    warehouse = open_dir.parent / "plays.duckdb"
    run_process("import", database, data_dir=open_dir, DUCKDB_PATH=warehouse)
    warehouse.chmod(0o640)
    outcome = run_process("import", database, data_dir=open_dir, DUCKDB_PATH=warehouse)
    assert outcome.exit_code == 0
    assert f"other users can read {warehouse}; to keep them out" in outcome.stderr
    assert stat.S_IMODE(warehouse.stat().st_mode) == 0o640
