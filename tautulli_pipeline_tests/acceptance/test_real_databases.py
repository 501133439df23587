"""Databases that Tautulli wrote, against what Tautulli's own web API says of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline_tests.acceptance.conftest import FIXTURES, Import, import_each
from tautulli_pipeline_tests.command import fates, query, run

if TYPE_CHECKING:
    from pathlib import Path

ORACLES = {
    path.name.removesuffix(".history.json"): path for path in FIXTURES.glob("*.history.json")
}
DATABASES = {
    **{name: FIXTURES / f"{name}.db" for name in sorted(ORACLES)},
    "open_in_wal_mode": FIXTURES / "wal_open" / "tautulli.db",
    "older_backup": FIXTURES / "backups" / "tautulli.backup-20220419154542.sched.db",
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
def imports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Import]:
    before = listing(FIXTURES)
    imports = import_each(DATABASES, tmp_path_factory.mktemp("real"))
    assert listing(FIXTURES) == before, "an import touched its source"
    return imports


def rows_of_history(database: Path, folder: Path) -> int:
    for path in database.parent.glob(f"{database.name}*"):
        if not path.name.endswith("-shm"):
            shutil.copyfile(path, folder / path.name)
    with closing(sqlite3.connect(folder / database.name)) as connection:
        return int(connection.execute("SELECT count(*) FROM session_history").fetchone()[0])


def as_stored(field: str, value: Any) -> Any:
    if value == "":
        return None
    return str(value) if field in TEXT and value is not None else value


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_every_row_equals_what_tautulli_itself_says(name: str, imports: dict[str, Import]) -> None:
    oracle = json.loads(ORACLES[name].read_text(encoding="utf-8"))["rows"]
    fields = list(oracle[0])
    columns = ", ".join(RENAMED.get(field, field) for field in fields)
    stored = query(
        imports[name].data_dir, f"SELECT {columns} FROM playback_events ORDER BY source_row_id"
    )
    expected = [tuple(as_stored(field, row[field]) for field in fields) for row in oracle]
    assert stored == sorted(expected)


@pytest.mark.parametrize("name", sorted(DATABASES))
def test_every_history_row_has_one_fate(
    name: str, imports: dict[str, Import], tmp_path: Path
) -> None:
    one, rows = imports[name], rows_of_history(DATABASES[name], tmp_path)
    assert one.outcome.exit_code == 0, one.outcome.stderr
    assert fates(one.summary) == {"total_records": rows, "processed": rows, "imported": rows}
    assert one.summary["published"] == rows
    assert (one.summary["status"], one.summary["progress"]) == ("completed", 100)
    assert query(one.data_dir, "SELECT count(DISTINCT id) FROM playback_events") == [(rows,)]


def test_a_database_in_use_is_read_with_its_log(imports: dict[str, Import]) -> None:
    assert imports["open_in_wal_mode"].summary["total_records"] == 125


def test_all_that_can_be_read_of_a_damaged_file_is_salvaged(tmp_path: Path) -> None:
    database, data_dir = FIXTURES / "corrupt_leaf.db", tmp_path / "data"
    outcome = run("import", database, "--salvage", "--json", data_dir=data_dir)
    assert (outcome.exit_code, fates(outcome.json)) == (
        0,
        {"total_records": 2000, "processed": 2000, "imported": 1988, "errors": 12},
    )
    assert outcome.stderr.splitlines()[-1] == (
        "could not read 12 rows of session_history_metadata, id 1020-1031 "
        "(database disk image is malformed)"
    )
    lost = query(
        data_dir,
        "SELECT i FROM range(1000, 1050) ids(i) WHERE i NOT IN "
        "(SELECT source_row_id FROM playback_events)",
    )
    assert lost == [(row_id,) for row_id in range(1020, 1032)]
