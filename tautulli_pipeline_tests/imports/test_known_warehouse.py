"""What a data directory remembers about its warehouse."""

from __future__ import annotations

import os
import shutil

import duckdb
import pytest

from tautulli_pipeline.errors import WarehouseVersionError
from tautulli_pipeline.imports import known_warehouse
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.known_warehouse import KnownWarehouse, require_known_version
from tautulli_pipeline.warehouse.migration_files import migration_names


@pytest.fixture
def file(settings):
    settings.warehouse_path.write_bytes(b"plays")
    return settings.warehouse_path


def complete(settings, warehouse_id="w-1"):
    """Remember the warehouse as an import does that completes."""
    known = KnownWarehouse(settings)
    with known.left_complete():
        known.opened(warehouse_id, [], {})


def facts(settings):
    known = KnownWarehouse(settings)
    return known.warehouse_id, known.is_untouched


def test_nothing_is_known_before_the_first_import(settings, file):
    assert facts(settings) == (None, False)
    with KnownWarehouse(settings).left_complete():
        pass  # the import did not open it
    assert facts(settings) == (None, False)


def test_the_file_is_known_again(settings, file):
    complete(settings)
    assert facts(settings) == ("w-1", True)
    file.rename(file.with_name("moved"))
    assert facts(settings) == (None, False)
    file.with_name("moved").rename(file)
    assert facts(settings) == ("w-1", True)


def test_a_file_that_was_written_since_is_to_be_confirmed(settings, file):
    complete(settings)
    with file.open("ab") as added:
        added.write(b"!")
    assert facts(settings) == ("w-1", False)
    complete(settings)
    os.utime(file, (1, 1))
    assert facts(settings) == ("w-1", False)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_import_that_fails_leaves_it_to_be_confirmed(settings, file, error):
    complete(settings)
    known = KnownWarehouse(settings)
    known.opened("w-1", [], {})
    with pytest.raises(error), known.left_complete():
        raise error
    assert facts(settings) == ("w-1", False)


def test_another_file_with_the_same_content_is_not_known(settings, file):
    complete(settings)
    shutil.copy2(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    assert facts(settings) == (None, False)


def test_a_link_to_the_file_is_the_file(settings, file):
    complete(settings)
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")
    assert facts(settings) == ("w-1", True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"warehouse_id": 1}'])
def test_a_damaged_memory_is_no_memory(settings, file, content):
    complete(settings)
    settings.layout.known_warehouse.write_bytes(content)
    assert facts(settings) == (None, False)
    complete(settings)
    assert facts(settings) == ("w-1", True)


def test_a_file_that_another_version_left_is_not_of_this_version(settings, file, monkeypatch):
    complete(settings)
    assert KnownWarehouse(settings).is_of_this_version
    for others in ((), ("0001_playback_events.sql",), (*migration_names(), "0099_later.sql")):
        with monkeypatch.context() as patched:
            patched.setattr(known_warehouse, "migration_names", lambda others=others: others)
            complete(settings)
        assert not KnownWarehouse(settings).is_of_this_version
        assert KnownWarehouse(settings).is_untouched


def test_a_warehouse_that_a_running_import_may_have_open_is_not_looked_at(settings):
    settings.data_dir.mkdir(exist_ok=True)
    with duckdb.connect(settings.warehouse_path) as connection:
        connection.execute("CREATE TABLE schema_migrations (name VARCHAR, applied_at TIMESTAMP)")
        connection.execute("INSERT INTO schema_migrations VALUES ('0099_later.sql', now())")
    with ImportLock(settings.data_dir).kept():
        require_known_version(settings)
    with pytest.raises(WarehouseVersionError, match="0099_later"):
        require_known_version(settings)


def test_a_file_that_cannot_be_read_is_left_to_whatever_opens_it(settings, file):
    require_known_version(settings)
    file.unlink()
    require_known_version(settings)
