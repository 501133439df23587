"""Imports of databases written by Tautulli, compared with the answers of Tautulli's web API."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.acceptance.conftest import Import, import_each
from tautulli_pipeline_tests.command import outcomes, query, run
from tautulli_pipeline_tests.eras import HISTORY, METADATA
from tautulli_pipeline_tests.pages import overwrite, settle, tree_of

if TYPE_CHECKING:
    from pathlib import Path

IN_USE, ZIPPED = "v2.17.2", "v2.6.10_migrated_to_v2.17.2"
# As users have them: two databases, a backup, a zipped backup, and one that Tautulli has open.
FILES = {
    "v1.2.16": "plexpy.db",
    "v2.2.4": "tautulli.db",
    "v2.12.5": "tautulli.backup-20230411154542.sched.db",
    ZIPPED: "tautulli.backup-20231205143956.sched.db.zip",
    IN_USE: "tautulli.db",
}
RENAMED = {
    "row_id": "source_row_id",
    "user": "username",
    "started": "epoch(started_at)::BIGINT",
    "stopped": "epoch(stopped_at)::BIGINT",
    "secure": "secure::INTEGER",
    "relayed": "relayed::INTEGER",
}
TEXT = {"rating_key", "parent_rating_key", "grandparent_rating_key"}


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    make = {IN_USE: tautulli_databases.build_in_use, ZIPPED: tautulli_databases.build_backup}
    paths = {}
    for name, file in FILES.items():
        paths[name] = tmp_path_factory.mktemp(name) / file
        make.get(name, tautulli_databases.build)(name, paths[name])
    return paths


@pytest.fixture(scope="module")
def imports(
    databases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Import]:
    before = [listing(path.parent) for path in databases.values()]
    imports = import_each(databases, tmp_path_factory.mktemp("real"))
    after = [listing(path.parent) for path in databases.values()]
    assert after == before, "an import changed its source"
    return imports


def as_stored(field: str, value: Any) -> Any:
    if value == "":
        return None
    return str(value) if field in TEXT and value is not None else value


def assert_equal(data_dir: Path, answers: list[dict[str, Any]]) -> None:
    """Assert that the table has exactly these rows, equal in every field that both have."""
    fields = list(answers[0])
    columns = ", ".join(RENAMED.get(field, field) for field in fields)
    stored = query(data_dir, f"SELECT {columns} FROM playback_events ORDER BY source_row_id")
    expected = [tuple(as_stored(field, row[field]) for field in fields) for row in answers]
    assert stored == sorted(expected)


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_every_row_equals_the_answer_of_tautullis_api(
    name: str, imports: dict[str, Import]
) -> None:
    assert_equal(imports[name].data_dir, tautulli_databases.answers(name))


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_every_history_row_is_imported_once(name: str, imports: dict[str, Import]) -> None:
    one = imports[name]
    rows = len(tautulli_databases.content_of(name)["tables"][HISTORY]["rows"])
    assert one.outcome.exit_code == 0, one.outcome.stderr
    assert outcomes(one.summary) == {"total_records": rows, "processed": rows, "imported": rows}
    assert one.summary["published"] == rows
    assert (one.summary["status"], one.summary["progress"]) == ("completed", 100)
    assert query(one.data_dir, "SELECT count(DISTINCT id) FROM playback_events") == [(rows,)]


def unreadable(database: Path, table: str) -> list[int]:
    """Return the ids of the rows that SQLite cannot read."""
    lost = []
    with closing(sqlite3.connect(database)) as connection:
        for row_id in range(1, 301):
            try:
                connection.execute(f"SELECT * FROM {table} WHERE id = ?", (row_id,)).fetchall()
            except sqlite3.DatabaseError:
                lost.append(row_id)
    return lost


def test_every_readable_row_of_a_damaged_file_is_salvaged(tmp_path: Path) -> None:
    database, data_dir = tmp_path / "tautulli.db", tmp_path / "data"
    tautulli_databases.build("v2.17.2", database)
    settle(database)
    for name, leaf in ((HISTORY, 20), (METADATA, 102), (f"idx_{HISTORY}_user", 2)):
        overwrite(database, tree_of(database, name).leaves[leaf : leaf + 1])
    lost = {table: unreadable(database, table) for table in (HISTORY, METADATA)}
    every_lost = {row_id for ids in lost.values() for row_id in ids}
    assert len(every_lost) == len(lost[HISTORY]) + len(lost[METADATA]) < 20
    outcome = run("import", database, "--salvage", "--json", data_dir=data_dir)
    assert outcome.exit_code == 0
    assert outcomes(outcome.json) == {
        "total_records": 300,
        "processed": 300,
        "imported": 300 - len(every_lost),
        "errors": len(every_lost),
    }
    assert outcome.stderr.splitlines()[-2:] == [
        f"could not read {len(ids)} rows of {table}, id {ids[0]}-{ids[-1]} "
        "(database disk image is malformed)"
        for table, ids in lost.items()
    ]
    answers = tautulli_databases.answers("v2.17.2")
    assert_equal(data_dir, [row for row in answers if row["row_id"] not in every_lost])
