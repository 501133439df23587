"""Atomic file writes."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tautulli_pipeline.data_dir import files
from tautulli_pipeline.data_dir.files import replacing, write_atomically

OLD, NEW = b"old content " * 1000, b"new content " * 3000


@pytest.fixture
def file(tmp_path):
    return tmp_path / "survey.json"


def fail_writes(monkeypatch, fault):
    """Make every write fail after 20 bytes."""
    write = Path.write_bytes

    def cut_short(path, content):
        write(path, content[:20])
        raise fault

    monkeypatch.setattr(Path, "write_bytes", cut_short)


def test_a_file_contains_the_last_write(file, tmp_path):
    for content in (OLD, NEW, b""):
        write_atomically(file, content)
        assert file.read_bytes() == content
        assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("before", [OLD, None])
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_file_unchanged(file, monkeypatch, before, fault):
    if before is not None:
        write_atomically(file, before)
    with monkeypatch.context() as patched:
        fail_writes(patched, fault)
        with pytest.raises(type(fault)):
            write_atomically(file, NEW)
    assert (file.read_bytes() if file.exists() else None) == before
    write_atomically(file, NEW)
    assert file.read_bytes() == NEW
    assert list(file.parent.iterdir()) == [file]  # no partial file is left


def test_a_failed_replace_leaves_the_old_file(file, monkeypatch):
    write_atomically(file, OLD)

    def refuse(_path, _target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        with pytest.raises(PermissionError):
            write_atomically(file, NEW)
    assert file.read_bytes() == OLD


def test_a_missing_folder_is_not_created(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "survey.json", NEW)
    assert list(tmp_path.iterdir()) == []


def test_readers_never_see_a_partial_file(file):
    write_atomically(file, OLD)
    is_done = threading.Event()

    def keep_writing():
        while not is_done.is_set():
            write_atomically(file, NEW)
            write_atomically(file, OLD)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    seen = {file.read_bytes() for _ in range(2000)}
    is_done.set()
    thread.join()
    assert seen <= {OLD, NEW}


def test_files_with_the_same_stem_do_not_affect_each_other(tmp_path):
    neighbours = [tmp_path / name for name in ("import.new", "import.txt", "import")]
    for neighbour in neighbours:
        neighbour.write_bytes(OLD)
    write_atomically(tmp_path / "import.json", NEW)
    assert [neighbour.read_bytes() for neighbour in neighbours] == [OLD] * 3


def test_two_writers_at_the_same_time_have_files_of_their_own(file):
    with replacing(file) as first:
        first.write_bytes(OLD)
        with replacing(file) as second:
            assert first != second
            second.write_bytes(NEW)
        assert file.read_bytes() == NEW
    assert file.read_bytes() == OLD
    assert list(file.parent.iterdir()) == [file]


def test_many_writers_leave_one_whole_file(file):
    def write(content):
        for _ in range(50):
            write_atomically(file, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in (OLD, NEW, b"x")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() in {OLD, NEW, b"x"}
    assert list(file.parent.iterdir()) == [file]


def test_what_a_killed_writer_left_is_removed_by_the_next(file):
    program = (
        "import os, pathlib, sys\n"
        "from tautulli_pipeline.data_dir.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, file], check=False)
    assert killed.returncode == -9
    (left,) = file.parent.iterdir()
    others = [left.with_name(f"other-{left.name}"), left.with_name(f"{file.name}.mine.new")]
    for other in others:
        other.write_bytes(OLD)
    write_atomically(file, NEW)
    assert sorted(file.parent.iterdir()) == sorted([file, *others])


def test_a_file_that_is_taken_for_a_leftover_before_it_is_locked_is_written_again(
    file, monkeypatch
):
    lock, removed = fcntl.flock, []

    def remove_first(opened, operation):
        if not removed:
            removed.append(Path(opened.name))
            removed[0].unlink()
        lock(opened, operation)

    monkeypatch.setattr(files.fcntl, "flock", remove_first)
    write_atomically(file, NEW)
    assert removed
    assert file.read_bytes() == NEW


def test_a_drive_without_locks_can_be_written(file, monkeypatch):
    def refuse(_opened, _operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    write_atomically(file, NEW)
    assert list(file.parent.iterdir()) == [file]
