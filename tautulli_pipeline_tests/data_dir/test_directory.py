"""Creating and removing the data directory, and explaining disk errors."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tautulli_pipeline.data_dir.directory import (
    data_directory,
    explained_faults,
    make_data_dir,
    require_warehouse_folder,
)
from tautulli_pipeline.data_dir.layout import DataDir, _Below
from tautulli_pipeline.errors import ConfigurationError, SourceError
from tautulli_pipeline.settings import Settings


def settings_of(data_dir, **others):
    return Settings(pipeline_data_dir=data_dir, **others)


def fail(fault, *made):
    for file in made:
        file.touch()
    raise fault


def explained(data_dir, fault):
    """Return the error that `explained_faults` raises for `fault`."""
    try:
        with explained_faults(data_dir):
            fail(fault)
    except Exception as raised:
        return raised


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_paths_in_a_data_directory_are_absolute_and_distinct(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = settings_of(Path("data")).layout
    assert layout.path == tmp_path / "data"
    names = [name for name, kind in vars(DataDir).items() if isinstance(kind, _Below)]
    found = {getattr(layout, name) for name in names}
    assert len(found) == len(names) > 0
    assert {path.parent for path in found} == {tmp_path / "data"}


def test_a_data_directory_is_private_to_its_owner_and_may_exist_already(tmp_path):
    settings = settings_of(tmp_path / "some" / "where")
    make_data_dir(settings)
    assert mode_of(settings.data_dir) == 0o700
    (settings.data_dir / "kept").touch()
    settings.data_dir.chmod(0o750)
    make_data_dir(settings)
    assert mode_of(settings.data_dir) == 0o750  # an existing mode is kept
    assert (settings.data_dir / "kept").exists()


def test_a_data_directory_that_cannot_be_created_is_reported_with_its_variable(tmp_path):
    (tmp_path / "file").touch()
    settings = settings_of(tmp_path / "file" / "data")
    with pytest.raises(ConfigurationError) as caught:
        make_data_dir(settings)
    where = str(tmp_path / "file" / "data")
    assert caught.value.message == (f"PIPELINE_DATA_DIR={where!r} is not usable: Not a directory")
    assert "PIPELINE_DATA_DIR" in caught.value.hint


def test_an_empty_new_directory_is_removed_with_its_new_parents_on_error(tmp_path):
    (tmp_path / "mine").mkdir()
    data_dir = tmp_path / "mine" / "a" / "b" / "data"
    with pytest.raises(KeyboardInterrupt), data_directory(settings_of(data_dir)):
        fail(KeyboardInterrupt())
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_new_directory_with_files_stays_on_error(tmp_path):
    data_dir = tmp_path / "a" / "data"
    with pytest.raises(SourceError, match="later"), data_directory(settings_of(data_dir)):
        fail(SourceError("later"), data_dir / "import.json")
    assert (data_dir / "import.json").exists()


def test_an_existing_empty_directory_stays_on_error(tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with pytest.raises(SourceError, match="bad"), data_directory(settings_of(data_dir)):
        raise SourceError("bad")
    assert data_dir.is_dir()


def test_a_new_directory_stays_on_success(tmp_path):
    with data_directory(settings_of(tmp_path / "data")):
        pass
    assert (tmp_path / "data").is_dir()


def test_a_missing_warehouse_folder_is_not_created(tmp_path):
    mount = tmp_path / "mnt" / "disk"
    settings = settings_of(tmp_path / "data", duckdb_path=mount / "playback.duckdb")
    with pytest.raises(ConfigurationError) as caught, data_directory(settings):
        pass
    assert caught.value.message == (
        f"DUCKDB_PATH={str(mount / 'playback.duckdb')!r} is not usable: "
        f"folder {mount} does not exist"
    )
    assert list(tmp_path.iterdir()) == []
    mount.mkdir(parents=True)
    require_warehouse_folder(settings)


def test_a_warehouse_in_the_data_directory_needs_no_existing_folder(tmp_path):
    data_dir = tmp_path / "data"
    require_warehouse_folder(settings_of(data_dir, duckdb_path=data_dir / "other.duckdb"))


@pytest.mark.parametrize("code", ["EACCES", "EPERM", "EROFS", "EIO", "EFBIG", "EDQUOT", "ENOSPC"])
def test_a_disk_error_is_reported_with_the_system_message(tmp_path, code):
    number = getattr(errno, code)
    fault = explained(tmp_path, OSError(number, "another message"))
    assert isinstance(fault, ConfigurationError)
    assert fault.message == (
        f"cannot write to the data directory {tmp_path}: {os.strerror(number).lower()}"
    )
    assert "import again to resume" in fault.hint
    assert fault.__cause__.errno == number


def test_a_disk_error_is_found_behind_library_errors(tmp_path):
    full = OSError(errno.EROFS, "")
    wrapped = RuntimeError("could not load the run")
    wrapped.__cause__ = ValueError("plugin error")
    wrapped.__cause__.__context__ = full
    assert explained(tmp_path, wrapped).message.endswith("read-only file system")


def test_a_circular_chain_of_errors_is_handled(tmp_path):
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert explained(tmp_path, first) is first


@pytest.mark.parametrize(
    "fault",
    [
        FileNotFoundError(errno.ENOENT, "no such file"),
        ConnectionRefusedError(errno.ECONNREFUSED, "connection refused"),
        ValueError("a bug"),
        SourceError("not a SQLite database"),
        sqlite3.OperationalError("no such table: runs"),
    ],
)
def test_other_errors_are_unchanged(tmp_path, fault):
    assert explained(tmp_path, fault) is fault


def test_a_pipeline_error_is_unchanged_even_if_a_disk_error_caused_it(tmp_path):
    ours = SourceError("cannot read tautulli.db")
    ours.__cause__ = OSError(errno.EACCES, "")
    assert explained(tmp_path, ours) is ours


def refused_by_sqlite(tmp_path, kind):
    """Return a real SQLite error of the given kind."""
    path = tmp_path / "none" / "runs.db" if kind == "cannot open" else tmp_path / "runs.db"
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            connection.executescript("CREATE TABLE runs (body); PRAGMA max_page_count = 2")
            if kind == "readonly":
                connection.execute("PRAGMA query_only = ON")
            with closing(sqlite3.connect(path, timeout=0)) as other:
                other.execute("BEGIN EXCLUSIVE" if kind == "busy" else "BEGIN")
                connection.execute("INSERT INTO runs VALUES (zeroblob(100000))")
    except sqlite3.Error as error:
        return error


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("full", "database or disk is full"),
        ("readonly", "attempt to write a readonly database"),
        ("cannot open", "unable to open database file"),
    ],
)
def test_a_failed_sqlite_write_is_a_disk_error(tmp_path, kind, words):
    fault = explained(tmp_path, refused_by_sqlite(tmp_path, kind))
    assert isinstance(fault, ConfigurationError)
    assert fault.message.endswith(words)


def test_a_locked_database_is_not_a_disk_error(tmp_path):
    busy = refused_by_sqlite(tmp_path, "busy")
    assert explained(tmp_path, busy) is busy


@pytest.mark.parametrize(("free", "full"), [(0, True), (2**20 - 1, True), (2**20, False)])
def test_a_full_disk_is_reported_as_full_despite_other_error_codes(
    tmp_path, monkeypatch, free, full
):
    asked = []

    def usage(path):
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    fault = explained(tmp_path / "not" / "made", OSError(errno.EIO, ""))
    assert fault.message.endswith(": its disk is full") == full
    assert asked == [tmp_path]  # the nearest existing folder
