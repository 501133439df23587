from __future__ import annotations

import gzip
import json
import sqlite3
import zipfile
from contextlib import closing

import pytest

from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.eras import HISTORY, METADATA, make_database, make_era_database, play
from tautulli_pipeline_tests.tautulli_databases import FOLDER, NAMES, SECRETS

WITH_GRAPHS = ("v2.17.2", "v2.6.10_migrated_to_v2.17.2")
ODD_CELLS = ("", None, 0, -1, 1.5, 1e300, 2**63 - 1, -(2**63), "1_0", "Zoë 🎬", "a\x00b", "], [")


def query(path, sql, options=""):
    with closing(sqlite3.connect(f"{path.as_uri()}?{options}", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def storage_classes(path):
    """Return the storage class of every cell of the tables that the pipeline reads."""
    classes = {}
    for table in tautulli_databases.read(path)["tables"]:
        names = [column[1] for column in query(path, f"PRAGMA table_info({table})")]
        typed = ", ".join(f"typeof({name})" for name in names)
        classes[table] = query(path, f"SELECT {typed} FROM {table} ORDER BY rowid")
    return classes


def stored_and_built(path):
    """Store a database, build it again and return the path of the result."""
    packed = tautulli_databases.packed(tautulli_databases.read(path))
    built = path.with_name("built.db")
    tautulli_databases.write(json.loads(gzip.decompress(packed)), built)
    return built


def test_each_database_has_its_history_and_three_have_their_graphs():
    expected = {f"{name}{kind}.json.gz" for name in NAMES for kind in ("", ".history")}
    expected |= {f"{name}.graphs.json.gz" for name in ("demo-3000", *WITH_GRAPHS)}
    assert {path.name for path in FOLDER.glob("*.gz")} == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_built_database_equals_the_stored_content(tmp_path, name):
    tautulli_databases.build(name, tmp_path / "tautulli.db")
    content = tautulli_databases.content_of(name)
    assert tautulli_databases.read(tmp_path / "tautulli.db") == content
    assert query(tmp_path / "tautulli.db", "PRAGMA integrity_check") == [("ok",)]
    assert query(tmp_path / "tautulli.db", "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("name", NAMES)
def test_tautullis_answer_covers_every_play(name):
    history = tautulli_databases.content_of(name)["tables"][HISTORY]["rows"]
    answered = sorted(row["row_id"] for row in tautulli_databases.answers(name))
    assert answered == [row[0] for row in history]


@pytest.mark.parametrize("name", NAMES)
def test_no_email_address_or_token_is_stored(tmp_path, name):
    path = tmp_path / "tautulli.db"
    tautulli_databases.build(name, path)
    for secret in SECRETS & {column[1] for column in query(path, "PRAGMA table_info(users)")}:
        assert query(path, f"SELECT 1 FROM users WHERE {secret} <> ''") == []


def test_email_addresses_and_tokens_are_blanked_before_storing(tmp_path):
    secrets = {"email": "mira@example.com", "user_token": "t0ken", "server_token": None}
    make_database(tmp_path / "a.db", users=[{"user_id": 1, "username": "mira"} | secrets])
    built = stored_and_built(tmp_path / "a.db")
    columns = "username, email, user_token, server_token"
    assert query(built, f"SELECT {columns} FROM users") == [("mira", "", "", None)]


def test_every_cell_keeps_its_value_and_storage_class(tmp_path):
    path = tmp_path / "a.db"
    odd = [
        play(number, history={"view_offset": cell, "user": cell}, metadata={"year": cell})
        for number, cell in enumerate(ODD_CELLS, 1)
    ]
    make_database(path, plays=odd)
    built = stored_and_built(path)
    assert tautulli_databases.read(built) == tautulli_databases.read(path)
    assert storage_classes(built) == storage_classes(path)


def test_columns_keep_the_order_of_an_upgraded_database(tmp_path):
    path = tmp_path / "a.db"
    make_era_database(path, "v2.17.2", migrated_from="v1.2.16")
    built = stored_and_built(path)
    for table in tautulli_databases.TABLES:
        assert query(built, f"PRAGMA table_info({table})") == query(
            path, f"PRAGMA table_info({table})"
        )


def test_a_database_in_use_has_committed_and_uncommitted_frames_in_its_log(tmp_path):
    path = tmp_path / "tautulli.db"
    tautulli_databases.build_in_use("v2.17.2", path, plays_in_log=25)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("tautulli.db", "tautulli.db-wal", "tautulli.db-shm")
    }
    assert b"not committed" in path.with_name("tautulli.db-wal").read_bytes()
    plays = f"SELECT count(*) FROM {HISTORY} JOIN {METADATA} USING (id)"
    assert query(path, plays, "mode=ro&immutable=1") == [(275,)]  # without the log
    assert query(path, plays) == [(300,)]
    assert tautulli_databases.read(path) == tautulli_databases.content_of("v2.17.2")


def test_a_backup_contains_only_the_database(tmp_path):
    backup = tmp_path / "tautulli.backup-20231205143956.sched.db.zip"
    tautulli_databases.build_backup("v2.12.5", backup)
    assert list(tmp_path.iterdir()) == [backup]
    with zipfile.ZipFile(backup) as archive:
        assert archive.namelist() == ["tautulli.db"]
        archive.extractall(tmp_path)
    content = tautulli_databases.content_of("v2.12.5")
    assert tautulli_databases.read(tmp_path / "tautulli.db") == content
