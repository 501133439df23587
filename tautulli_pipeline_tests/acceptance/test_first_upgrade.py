"""A data directory of version 0.1.0 goes on with this version, and loses nothing."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.imports.record import ImportLog, Status
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.command import imported, nothing_runs, query, run
from tautulli_pipeline_tests.released import LATER_PLAYS, PLAYS, Released, unpack

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("playback_events", "dedupe_audit_log", "dead_letters")
SECRETS = ("s3cret", "ann@example.org")
# What an upgrade or the next import may add to a row of version 0.1.0.
CHANGED = {
    "playback_events": {"extra", "content_hash", "group_started_at"},
    "dedupe_audit_log": {"discarded_payload", "content_hash", "discarded_server_id"},
    # Rows of Tautulli that are rejected again get new letters, which close the old ones.
    "dead_letters": {"record", "closed_at", "closed_by"},
}
# Where a process that upgrades is killed, in small parts: at which call of a function, before or
# after it. A part is committed between its note and the checkpoint that follows.
KILLS = (
    *(("upgrade", "_note", call, "after") for call in (1, 3, 7)),
    *(("schema", "checkpoint", call, "before") for call in (1, 3, 5, 9, 14)),
    *(("schema", "checkpoint", call, "after") for call in (2, 6)),
)
KILLED = """
import os, pathlib, signal, sys
from tautulli_pipeline.warehouse import schema, upgrade

path, module, name, call, moment = sys.argv[1:]
upgrade.PART_ROWS, upgrade._NARROW_PART_ROWS = 8, 150
module = {"schema": schema, "upgrade": upgrade}[module]
real, calls = getattr(module, name), []

def killed(*args, **kwargs):
    calls.append(args)
    if len(calls) < int(call):
        return real(*args, **kwargs)
    if moment == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, killed)
schema.connect(pathlib.Path(path), {})
"""


def rows_of(data_dir: Path, table: str) -> dict[Any, dict[str, Any]]:
    """Return the rows of a table by id, without what may change."""
    columns = [
        name
        for name, *_ in query(data_dir, f"DESCRIBE {table}")
        if name not in CHANGED[table] | {"matched_server_id"}
    ]
    listed = ", ".join(f'"{name}"' for name in columns)
    found = query(data_dir, f"SELECT {listed} FROM {table}")
    return {row[columns.index("id")]: dict(zip(columns, row, strict=True)) for row in found}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Return a data directory as version 0.1.0 left it; it stays so."""
    return unpack(tmp_path_factory.mktemp("before"))


@pytest.fixture
def released(tmp_path: Path) -> Released:
    """Return a data directory as version 0.1.0 left it."""
    return unpack(tmp_path)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Released, dict[str, Any]]:
    """Return a data directory of version 0.1.0 whose import this version has resumed."""
    released = unpack(tmp_path_factory.mktemp("resumed"))
    summary = imported(released.database, data_dir=released.data_dir)
    assert nothing_runs(released.data_dir)
    return released, summary


def test_the_record_and_the_receipts_of_the_import_are_read(before: Released) -> None:
    record = ImportLog(before.data_dir).read()
    assert record is not None
    assert (record.status, record.total_records) == (Status.FAILED, LATER_PLAYS)
    assert record.unchanged == PLAYS
    assert record.is_of(before.database, "default")
    folder = ReceiptFolder(before.data_dir / "receipts" / record.import_id)
    receipts = [receipt for _, _, receipt in folder.unseen({})]
    assert receipts
    for receipt in receipts:
        assert receipt.rows["content_hash"].null_count == len(receipt.rows)
        assert receipt.last_sequence > 0


def test_commands_that_only_look_work_before_the_upgrade(
    before: Released,
) -> None:
    data_dir = before.data_dir
    status = run("status", "--json", data_dir=data_dir)
    assert (status.exit_code, status.json["status"]) == (0, "failed")
    health = run("health", data_dir=data_dir)
    assert (health.exit_code, "ended unexpectedly" in health.stderr) == (1, True)
    assert run("dead-letters", "list", data_dir=data_dir).exit_code == 0
    assert run("duplicates", "list", data_dir=data_dir).exit_code == 0
    for command in (["query", "FROM plays"], ["export", "servers"], ["report"]):
        refused = run(*command, data_dir=data_dir)
        assert refused.exit_code == 6
        assert f"{before.warehouse}: it is of version 0.1.0" in refused.stderr.splitlines()[-2]
        assert "run an import to upgrade it" in refused.stderr.splitlines()[-1]
    assert not (data_dir / "analytics.duckdb").exists()
    names = query(data_dir, "SELECT name FROM schema_migrations ORDER BY 1")
    assert names[-1] == ("0003_reviews.sql",)


def test_the_killed_import_is_resumed(resumed: tuple[Released, dict[str, Any]]) -> None:
    released, summary = resumed
    before = json.loads((released.data_dir / "import.json").read_bytes())
    assert summary["import_id"] == before["import_id"]
    assert summary["status"] == "completed"
    assert summary["imported"] == LATER_PLAYS
    assert 0 < summary["upgrade_seconds"] < summary["elapsed_seconds"]
    # Version 0.1.0 did not look at every cell, so every partition is imported again once.
    assert summary["processed"] == summary["total_records"] == PLAYS + LATER_PLAYS
    assert not list(released.data_dir.glob("receipts/*/*"))


@pytest.mark.parametrize("table", TABLES)
def test_no_row_is_lost_or_changed(
    before: Released, resumed: tuple[Released, dict[str, Any]], table: str
) -> None:
    old, new = rows_of(before.data_dir, table), rows_of(resumed[0].data_dir, table)
    assert old
    assert {row_id: {name: new[row_id][name] for name in row} for row_id, row in old.items()} == old


def test_every_play_of_the_database_is_there_with_its_newest_title(
    resumed: tuple[Released, dict[str, Any]],
) -> None:
    data_dir = resumed[0].data_dir
    own = "source = 'tautulli-import'"
    stored = query(data_dir, f"SELECT count(*) FROM playback_events WHERE {own}")
    # One duplicate was restored by hand.
    assert stored == [(PLAYS + LATER_PLAYS + 1,)]
    titles = query(
        data_dir,
        "SELECT p.title || ', corrected' = r.title FROM playback_revisions r "
        "JOIN playback_events p USING (id) WHERE r.title <> p.title",
    )
    assert titles == [(True,)] * 5


def test_content_that_is_the_same_is_no_revision(
    resumed: tuple[Released, dict[str, Any]],
) -> None:
    data_dir = resumed[0].data_dir
    # Five titles were corrected, and ten plays lost the first play of their group.
    assert query(data_dir, "SELECT count(*) FROM playback_revisions") == [(15,)]
    filled = "SELECT count(content_hash), count(group_started_at) FROM playback_events"
    (hashes, groups), *_ = query(data_dir, f"{filled} WHERE source_row_id > 9000")
    # The first play of two groups is not in the file.
    assert (hashes, groups) == (LATER_PLAYS, LATER_PLAYS - 2)


def test_secrets_of_other_producers_are_gone(
    before: Released, resumed: tuple[Released, dict[str, Any]]
) -> None:
    def found(data_dir: Path) -> int:
        words = " OR ".join(f"t::VARCHAR LIKE '%{word}%'" for word in SECRETS)
        counts = [query(data_dir, f"SELECT count(*) FROM {t} t WHERE {words}") for t in TABLES]
        return sum(count for ((count,),) in counts)

    assert found(before.data_dir) >= 4
    assert found(resumed[0].data_dir) == 0


@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_an_upgrade_that_is_killed_is_taken_up(
    before: Released, released: Released, kill: tuple[str, str, int, str]
) -> None:
    command = [sys.executable, "-c", KILLED, released.warehouse, *map(str, kill)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with connect(released.warehouse, {}) as connection:
        revisions = "SELECT count(*) FROM playback_revisions"
        assert connection.execute(revisions).fetchall() == [(5,)]
    for table in TABLES:
        old, new = rows_of(before.data_dir, table), rows_of(released.data_dir, table)
        assert {row_id: {n: new[row_id][n] for n in row} for row_id, row in old.items()} == old


@pytest.fixture(scope="module", params=["0099_later.sql", "0004_draft.sql"])
def newer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Released, str]:
    """Return a data directory that another version has used, and the migration that it added."""
    released = unpack(tmp_path_factory.mktemp("newer"))
    with duckdb.connect(str(released.warehouse)) as connection:
        sql = "INSERT INTO schema_migrations VALUES (?, now()::TIMESTAMP)"
        connection.execute(sql, [request.param])
    (released.data_dir.parent / "demo").mkdir()
    (released.data_dir.parent / "demo" / "demo-data").symlink_to(released.data_dir)
    # Every command removes copies of the source that killed processes left.
    assert run("status", data_dir=released.data_dir).exit_code == 0
    return released, request.param


def state_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the mode, size and time of the last change of each file and folder."""
    found = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {name: (one.st_mode, one.st_size, one.st_mtime_ns) for name, one in found.items()}


@pytest.mark.parametrize(
    "command",
    [
        *("import {db}", "import {db} --dry-run", "import {db} --fresh --json", "validate {db}"),
        *("reset", "up --port 1", "demo", "query 'FROM plays'", "query --warehouse 'SELECT 1'"),
        *("report", "export", "export users", "duplicates list", "duplicates show 1"),
        *("duplicates restore 1", "duplicates confirm 1", "dead-letters list"),
        *("dead-letters show 1", "dead-letters replay"),
    ],
)
@pytest.mark.parametrize("servers", [False, True])
def test_a_newer_or_unreleased_warehouse_is_refused_in_one_line(
    newer: tuple[Released, str], command: str, *, servers: bool
) -> None:
    (data_dir, database), name = newer
    listed = data_dir / "pipeline.toml"
    if servers:
        listed.write_text(f'[[servers]]\nid = "home"\nsource = "{database}"\n')
    before = state_of(data_dir)
    arguments = shlex.split(command.format(db=f"{database} --server home" if servers else database))
    # `demo` has a data directory of its own in there.
    used = data_dir.parent / "demo" if command == "demo" else data_dir
    refused = run(*arguments, data_dir=used)
    assert refused.exit_code == 6, refused
    told = f"a newer or an unreleased version of the pipeline has changed it ({name})"
    assert told in refused.stderr.splitlines()[-2]
    assert len(refused.stderr.splitlines()) == 2
    assert state_of(data_dir) == before
    listed.unlink(missing_ok=True)


@pytest.mark.parametrize("command", ["status", "health", "stop"])
def test_commands_that_do_not_open_a_newer_warehouse_write_nothing(
    newer: tuple[Released, str], command: str
) -> None:
    data_dir = newer[0].data_dir
    before = state_of(data_dir)
    assert run(command, data_dir=data_dir).exit_code in {0, 1}
    assert state_of(data_dir) == before
