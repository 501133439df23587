"""A private folder has one owner and is removed when the owner exits."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tautulli_pipeline.source.private_folder import private_folder, remove_stale_snapshots
from tautulli_pipeline_tests.folders import without_privilege

OWNER = """
import sys
from pathlib import Path
from tautulli_pipeline.source.private_folder import private_folder
with private_folder(Path(sys.argv[1])) as folder:
    (folder / "tautulli.db").write_text("token")
    print(folder.name, flush=True)
    sys.stdin.read()
"""
CLEANER = """
import sys
from pathlib import Path
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.source.private_folder import remove_stale_snapshots
try:
    remove_stale_snapshots(Path(sys.argv[1]))
except ConfigurationError as error:
    print(error.message, error.hint, sep="\\n")
"""


@pytest.fixture
def parent(tmp_path):
    return tmp_path / "data" / "snapshots"


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def mode_of(path):
    return path.stat().st_mode & 0o777


def killed_owner(parent):
    """Kill a process that owns a folder, and return the folder it leaves behind."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        name = process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGKILL)
    return parent / name


def test_created_folders_are_private_to_the_owner(parent, tmp_path):
    before = os.umask(0)
    try:
        with private_folder(parent) as folder:
            made = [folder, parent, parent.parent]
            assert [mode_of(path) for path in made] == [0o700] * 3
            assert names_in(parent) == [folder.name, f"{folder.name}.lock"]
            assert folder.name.startswith("snapshot-")
    finally:
        os.umask(before)
    assert names_in(tmp_path) == []


def test_the_contents_are_deleted_even_after_an_exception(parent, tmp_path):
    def interrupted():
        with private_folder(parent) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "tautulli.db").write_text("token")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names_in(tmp_path) == []


def test_only_created_and_empty_parents_are_removed(parent, tmp_path):
    parent.parent.mkdir()
    with private_folder(parent):
        pass
    assert names_in(tmp_path) == ["data"]
    with private_folder(parent):
        (parent.parent / "other").touch()
    assert names_in(parent.parent) == ["other"]
    with private_folder(parent):
        (parent / "kept").touch()
    assert names_in(parent) == ["kept"]


def test_several_owners_have_separate_folders_and_exit_in_any_order(parent, tmp_path):
    owners = [ExitStack() for _ in range(3)]
    folders = [owner.enter_context(private_folder(parent)) for owner in owners]
    assert len(set(folders)) == 3
    existing = [True] * 3
    for index in (1, 2, 0):
        owners[index].close()
        existing[index] = False
        assert [folder.exists() for folder in folders] == existing
    assert names_in(tmp_path) == []


def test_an_owner_exits_cleanly_if_its_folder_was_deleted(parent, tmp_path):
    with private_folder(parent) as folder:
        folder.rmdir()
        folder.with_name(f"{folder.name}.lock").unlink()
    assert names_in(tmp_path) == []


def test_only_the_folder_of_a_killed_owner_is_removed(parent):
    stale = killed_owner(parent)
    assert names_in(stale) == ["tautulli.db"]
    with private_folder(parent) as live:
        remove_stale_snapshots(parent)
        assert names_in(parent) == [live.name, f"{live.name}.lock"]


def test_unrelated_files_are_kept(parent):
    parent.mkdir(parents=True)
    for name in ("notes.txt", "other-1.lock", "snapshots"):
        (parent / name).touch()
    for name in ("snapshot-1", "snapshot-2"):
        (parent / name).mkdir()
    (parent / "snapshot-2.lock").touch()
    (parent / "snapshot-3.lock").touch()
    remove_stale_snapshots(parent)
    assert names_in(parent) == ["notes.txt", "other-1.lock", "snapshots"]


def test_another_name_is_claimed_if_the_parent_disappears(parent, tmp_path, monkeypatch):
    """Another owner may remove the empty parent on exit."""
    names = []

    def parent_gone_once(size):
        if not names:
            parent.rmdir()
        names.append("ab"[len(names)] * 2 * size)
        return names[-1]

    monkeypatch.setattr(secrets, "token_hex", parent_gone_once)
    with private_folder(parent) as folder:
        assert folder.name == f"snapshot-{names[1]}"
    assert names_in(tmp_path) == []


def test_claiming_fails_after_ten_attempts(parent, tmp_path, monkeypatch):
    taken = []

    def always_removed(lock, _operation):
        taken.append(lock.name)
        os.unlink(lock.name)  # noqa: PTH108 - the name of an open file

    monkeypatch.setattr(fcntl, "flock", always_removed)
    with pytest.raises(OSError, match="other processes keep removing it"), private_folder(parent):
        pytest.fail("the folder was claimed")
    assert len(set(taken)) == 10
    assert names_in(tmp_path) == []


def test_a_stale_copy_that_cannot_be_deleted_is_reported_with_its_path(parent):
    stale = parent / "snapshot-1"
    (stale / "inside").mkdir(parents=True)
    (stale / "inside" / "tautulli.db").touch()
    (stale / "inside").chmod(0o500)
    done = subprocess.run(
        without_privilege("-c", CLEANER, parent), capture_output=True, text=True, check=True
    )
    (stale / "inside").chmod(0o700)
    message, hint = done.stdout.splitlines()
    assert message == f"cannot delete the stale copy {str(stale)!r}: permission denied"
    assert "tokens" in hint
    assert stale.exists()
    remove_stale_snapshots(parent)
    assert names_in(parent) == []


def test_a_folder_that_another_process_is_claiming_is_kept(parent):
    parent.mkdir(parents=True)
    with (parent / "snapshot-1.lock").open("x") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_stale_snapshots(parent)
        assert names_in(parent) == ["snapshot-1.lock"]
    remove_stale_snapshots(parent)
    assert names_in(parent) == []
