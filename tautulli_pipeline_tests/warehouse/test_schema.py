import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import duckdb
import pytest

from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.warehouse import schema
from tautulli_pipeline.warehouse.migration_files import migrations
from tautulli_pipeline.warehouse.schema import connect, warehouse_id

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "it's a warehouse.duckdb"


def whole(connection):
    """Return every table, index and row of the warehouse."""
    objects = connection.execute(
        "SELECT sql FROM duckdb_tables() UNION ALL SELECT sql FROM duckdb_indexes()"
    ).fetchall()
    tables = [
        name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    ]
    return sorted(objects), {t: connection.execute(f"FROM {t}").fetchall() for t in sorted(tables)}


def test_every_migration_is_recorded_once_and_opening_again_changes_nothing(path):
    with connect(path, {}) as connection:
        before = whole(connection)
        assert connection.sql("FROM playback_events").fetchall() == []
    recorded = [name for name, _ in before[1]["schema_migrations"]]
    assert recorded == list(migrations()) == sorted(recorded)
    with connect(path, {}) as connection:
        assert whole(connection) == before
        schema.migrate(connection)
        assert whole(connection) == before


def test_a_failed_migration_keeps_earlier_ones_and_is_retried(path, monkeypatch):
    scripts = {
        "0001.sql": "CREATE TABLE one (a INT)",
        "0002.sql": "CREATE TABLE two (a INT); FROM x",
    }
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    with pytest.raises(duckdb.CatalogException):
        connect(path, {})
    scripts["0002.sql"] = "CREATE TABLE two (a INT)"
    with connect(path, {}) as connection:
        assert [name for name, _ in whole(connection)[1]["schema_migrations"]] == list(scripts)
        assert set(whole(connection)[1]) == {"one", "two", "schema_migrations"}


def test_the_warehouse_id_lasts_as_long_as_the_file(path, tmp_path):
    with connect(path, {}) as connection:
        first = warehouse_id(connection)
    with connect(path, {}) as connection:
        assert warehouse_id(connection) == first
    path.unlink()
    with connect(path, {}) as connection:
        assert warehouse_id(connection) != first


def test_the_error_names_the_process_that_has_the_file_open(path):
    connect(path, {}).close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WarehouseError) as caught:
            connect(path, {})
        holder.stdin.close()
    assert caught.value.message.startswith(
        f"cannot open the warehouse {path}: process {holder.pid} ("
    )
    assert "DUCKDB_PATH" in caught.value.hint
    connect(path, {}).close()


def not_a_database(path):
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" * 1000)


def cut_short(path):
    connect(path, {}).close()
    os.truncate(path, 5000)


def a_folder(path):
    path.mkdir(parents=True)


def inside_a_file(path):
    path.parent.write_text("a file where the folder should be")


def of_a_newer_duckdb(path):
    connect(path, {}).close()
    with path.open("r+b") as file:
        file.seek(12)
        file.write(bytes([250]))


def of_sqlite(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE plays (id INTEGER)")


def of_no_bytes(path):
    path.parent.mkdir()
    path.touch()


@pytest.mark.parametrize(
    "spoil",
    [not_a_database, of_sqlite, of_no_bytes, cut_short, a_folder, inside_a_file, of_a_newer_duckdb],
)
def test_a_path_that_cannot_be_a_warehouse_is_refused_and_not_changed(path, spoil):
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(WarehouseError) as caught:
        connect(path, {})
    assert caught.value.message.startswith(f"cannot open the warehouse {path}: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("CREATE TABLE playback_events (id INTEGER)", "playback_events"),
        ("CREATE VIEW dead_letters AS SELECT 1 AS one", "dead_letters"),
        ("CREATE TABLE schema_migrations (version VARCHAR)", "schema_migrations"),
    ],
)
def test_a_database_with_foreign_tables_of_our_names_is_refused_and_not_changed(path, sql, name):
    path.parent.mkdir()
    with duckdb.connect(path) as connection:
        connection.execute(sql)
    before = path.read_bytes()
    with pytest.raises(WarehouseError) as caught:
        connect(path, {})
    message = f"cannot use the warehouse {path}: table {name} was not created by this pipeline"
    assert caught.value.message == message
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])


@pytest.mark.parametrize("storage_version", ["v0.10.2", "v1.3.0", "latest"])
def test_our_tables_can_be_added_to_a_database_with_other_tables(path, storage_version):
    path.parent.mkdir()
    with duckdb.connect() as connection:
        quoted = str(path).replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS theirs (STORAGE_VERSION '{storage_version}')")
        connection.execute("CREATE TABLE theirs.wishes AS SELECT 'popcorn' AS wish")
    for _ in range(2):
        with connect(path, {}) as connection:
            assert connection.sql("FROM wishes").fetchall() == [("popcorn",)]
            assert connection.sql("SELECT count(*) FROM playback_events").fetchall() == [(0,)]


def test_an_unfinished_database_is_recreated(path):
    path.parent.mkdir()
    path.with_name(f"{path.name}.new").write_bytes(b"half a header")
    with connect(path, {}) as connection:
        assert connection.sql("SELECT count(*) FROM playback_events").fetchall() == [(0,)]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_created_is_an_error():
    with pytest.raises(WarehouseError, match=r"cannot open the warehouse /proc/w\.duckdb: "):
        connect(schema.Path("/proc/w.duckdb"), {})


def test_both_unique_indexes_exist(path):
    with connect(path, {}) as connection:
        found = connection.execute(
            "SELECT index_name, is_unique FROM duckdb_indexes() ORDER BY index_name"
        ).fetchall()
    assert found == [("idx_playback_correlation_key", True), ("idx_playback_dedup", True)]


def test_nothing_is_spilled_to_the_current_directory(path, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with connect(path, {"memory_limit": "30MB"}) as connection:
        connection.execute("CREATE TABLE spilled AS SELECT uuid() a FROM range(1000000) ORDER BY a")
    assert list(elsewhere.iterdir()) == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("IO Error: Cannot open file", "Cannot open file"),
        ("IO Error: one\nmore of it", "one"),
        (
            'FATAL Error: Failed: database has been invalidated. Original error: "IO Error: full"',
            "full",
        ),
        ("no kind at all", "no kind at all"),
    ],
)
def test_the_message_has_the_first_cause_without_duckdbs_error_types(path, text, cause):
    for operation, hint in [
        ("open", "set DUCKDB_PATH"),
        ("write", "check that its folder is writable"),
    ]:
        with pytest.raises(WarehouseError) as caught, schema.explained(path, operation):
            raise duckdb.IOException(text)
        assert caught.value.message == f"cannot {operation} the warehouse {path}: {cause}"
        assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("operation", ["open", "read", "write", "upgrade"])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (duckdb.OutOfMemoryException, "Out of Memory Error: too much"),
        (duckdb.TransactionException, "Failed to commit: Out of Memory Error: too much"),
        (
            duckdb.IOException,
            'IO Error: Checkpoint failed for database "w". The database has been invalidated. '
            "Original error: could not allocate block of size 256.0 KiB (19.0/19.0 MiB used)",
        ),
    ],
)
def test_a_lack_of_memory_gets_its_own_hint(path, operation, error, text):
    with (
        pytest.raises(WarehouseError, match=": out of memory: ") as caught,
        schema.explained(path, operation),
    ):
        raise error(f"{text}\nUnused blocks cannot be offloaded to disk.")
    assert caught.value.hint.startswith("close other programs")


@pytest.mark.parametrize(
    "text",
    [
        "Out of Memory Error: failed to offload data block of size 256.0 KiB (1/1 KiB used)",
        "IO Error: Could not write file: No space left on device\nIncrease the memory limit",
        "IO Error: Cannot open file\nOut of Memory",
    ],
)
def test_a_full_disk_is_no_lack_of_memory(path, text):
    with pytest.raises(WarehouseError) as caught, schema.explained(path, "write"):
        raise duckdb.IOException(text)
    assert caught.value.hint.startswith("check that its folder is writable and has free space")


def test_a_checkpoint_that_runs_out_of_memory_says_so(path):
    """DuckDB raises no `OutOfMemoryException` for it."""

    path.parent.mkdir()
    with duckdb.connect(path, config=schema.SETTINGS) as connection:
        connection.execute("CREATE TABLE keys (id UUID PRIMARY KEY)")
        connection.execute("INSERT INTO keys SELECT uuid() FROM range(3000)")
        connection.execute("SET memory_limit = '2MB'")
        with (
            pytest.raises(WarehouseError, match=r": out of memory: .*could not al") as caught,
            schema.explained(path, "write"),
        ):
            connection.execute("CHECKPOINT")
    assert not isinstance(caught.value.__cause__, duckdb.OutOfMemoryException)


def test_an_error_unrelated_to_the_file_is_passed_on(path):
    with pytest.raises(duckdb.ConstraintException), schema.explained(path, "write"):
        raise duckdb.ConstraintException("twice")


def test_the_names_of_all_created_tables_and_views_are_found(path):
    with connect(path, {}) as connection:
        created = connection.execute(
            "SELECT table_name FROM duckdb_tables() UNION ALL "
            "SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    found = schema._created_by(migrations().values()) - {"new_audit_log", "upgrade_progress"}
    assert found | {"schema_migrations"} == {name for (name,) in created}


def test_the_memory_limit_grows_with_the_table(path):
    def limit(connection):
        return connection.execute("SELECT current_setting('memory_limit')").fetchone()[0]

    with connect(path, {}) as connection:
        empty = limit(connection)
        connection.execute("DROP TABLE playback_events CASCADE")
        connection.execute("CREATE TABLE playback_events AS SELECT range AS id FROM range(2000000)")
        schema.set_memory_limit(connection)
        full = limit(connection)
    (small, kind), (large, same) = empty.split(), full.split()
    assert kind == same == "MiB"
    # 134 bytes for each of two million rows
    assert 250 < float(large) - float(small) < 262


def test_a_configured_memory_limit_is_kept(path):
    with connect(path, {"memory_limit": "77MB"}) as connection:
        found = connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert found == ("73.4 MiB",)


def test_an_error_while_writing_closes_the_file(path):
    def work():
        with schema.open_warehouse(path):
            raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate")

    with pytest.raises(WarehouseError, match=r"write the warehouse .*: out of memory: failed to "):
        work()
    with schema.open_warehouse(path) as connection:
        assert connection.sql("FROM playback_events").fetchall() == []


def test_the_log_of_another_database_is_not_replayed_into_a_new_one(path):
    path.parent.mkdir()
    log = path.with_name(f"{path.name}.wal")
    log.write_bytes(b"what a killed writer left behind")
    with pytest.raises(WarehouseError) as caught:
        connect(path, {})
    assert str(log) in caught.value.message
    assert sorted(path.parent.iterdir()) == [log]
    log.unlink()
    with connect(path, {}) as connection:
        assert connection.sql("FROM playback_events").fetchall() == []
