"""Damaged databases on the real command line: messages, stored rows and counts."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.command import Outcome, imported, outcomes, query, run
from tautulli_pipeline_tests.eras import HISTORY, MEDIA_INFO, METADATA, make_database, play
from tautulli_pipeline_tests.fuzzed import fuzz
from tautulli_pipeline_tests.pages import overwrite, settle, tree_of

if TYPE_CHECKING:
    from pathlib import Path

MALFORMED = "database disk image is malformed"
SALVAGE_HINT = "`import --salvage` imports what is readable; a Tautulli backup may be complete"
ROWS = 400
WIDTH = 40


@pytest.fixture
def closed_database(tmp_path: Path) -> Path:
    path = tmp_path / "tautulli.db"
    make_demo_database(path, ROWS)
    settle(path)
    return path


def ids_of(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row_id for (row_id,) in connection.execute(f"SELECT id FROM {HISTORY} ORDER BY id")]


def unreadable_in(path: Path, table: str, ids: list[int]) -> list[int]:
    """Return the ids whose rows SQLite itself cannot read."""
    lost = []
    with closing(sqlite3.connect(path)) as connection:
        for row_id in ids:
            try:
                connection.execute(f"SELECT * FROM {table} WHERE id = ?", (row_id,)).fetchall()
            except sqlite3.DatabaseError:
                lost.append(row_id)
    return lost


def damage(path: Path, ids: list[int], table: str, leaves: slice) -> list[int]:
    """Overwrite leaves of a table and return those of `ids` whose rows are lost."""
    overwrite(path, tree_of(path, table).leaves[leaves])
    return unreadable_in(path, table, ids)


def refused(outcome: Outcome, data_dir: Path) -> str:
    """Check for exit code 3, a hint and no data directory; return the message."""
    assert (outcome.exit_code, outcome.stdout) == (3, "")
    message, hint = outcome.stderr.splitlines()
    assert hint.strip() == SALVAGE_HINT
    assert not data_dir.exists()
    return message.removeprefix("tautulli-pipeline: ")


def named(row_ids: list[int]) -> str:
    return f"{row_ids[0]}-{row_ids[-1]}"


@pytest.mark.parametrize("command", [["import"], ["validate"], ["import", "--dry-run"]])
def test_all_damage_is_listed_and_nothing_is_created(
    command: list[str], closed_database: Path, data_dir: Path
) -> None:
    ids = ids_of(closed_database)
    plays = damage(closed_database, ids, HISTORY, slice(5, 6))
    media = damage(closed_database, ids, MEDIA_INFO, slice(20, 22))
    content = closed_database.read_bytes()
    message = refused(run(*command, closed_database, data_dir=data_dir), data_dir)
    assert message == (
        f"cannot read all of {closed_database}: "
        f"{len(plays)} rows of {HISTORY}, id {named(plays)} ({MALFORMED}); "
        f"{len(media)} rows of {MEDIA_INFO}, id {named(media)} ({MALFORMED})"
    )
    assert closed_database.read_bytes() == content
    assert [path.name for path in closed_database.parent.iterdir()] == [closed_database.name]
    outcome = run(*command, closed_database, "--json", data_dir=data_dir)
    assert (outcome.exit_code, outcome.json) == (3, {"error": message, "hint": SALVAGE_HINT})


def test_an_existing_data_directory_stays_empty(closed_database: Path, data_dir: Path) -> None:
    overwrite(closed_database, tree_of(closed_database, METADATA).leaves[5:6])
    data_dir.mkdir()
    assert run("import", closed_database, data_dir=data_dir).exit_code == 3
    assert [path.name for path in data_dir.iterdir()] == []


def rows_of_table(data_dir: Path, columns: str) -> list[tuple[Any, ...]]:
    return query(data_dir, f"SELECT {columns} FROM playback_events ORDER BY source_row_id")


def test_salvage_counts_lost_rows_and_a_repaired_file_restores_them(
    closed_database: Path, data_dir: Path
) -> None:
    whole = closed_database.read_bytes()
    ids = ids_of(closed_database)
    without_history = damage(closed_database, ids, HISTORY, slice(5, 6))
    without_metadata = damage(closed_database, ids, METADATA, slice(60, 63))
    without_media = damage(closed_database, ids, MEDIA_INFO, slice(-3, -2))
    lost = sorted({*without_history, *without_metadata})
    outcome = run(
        "import", closed_database, "--salvage", "--batch-size", WIDTH, "--json", data_dir=data_dir
    )
    summary = outcome.json
    assert outcome.exit_code == 0
    assert outcomes(summary) == {
        "total_records": ROWS,
        "processed": ROWS,
        "imported": ROWS - len(lost),
        "errors": len(lost),
    }
    assert [(d["table"], d["rows"], d["ids"], d["cause"]) for d in summary["unreadable"]] == [
        (HISTORY, len(without_history), [named(without_history)], MALFORMED),
        (METADATA, len(without_metadata), [named(without_metadata)], MALFORMED),
        (MEDIA_INFO, len(without_media), [named(without_media)], MALFORMED),
    ]
    assert outcome.stderr.splitlines()[-3:] == [
        f"could not read {len(rows)} rows of {table}, id {named(rows)} ({MALFORMED})"
        for table, rows in (
            (HISTORY, without_history),
            (METADATA, without_metadata),
            (MEDIA_INFO, without_media),
        )
    ]
    stored = dict(rows_of_table(data_dir, "source_row_id, stream_container"))
    assert list(stored) == [row_id for row_id in ids if row_id not in lost]
    assert [row_id for row_id in stored if stored[row_id] is None] == without_media
    assert query(data_dir, "SELECT count(*) FROM dead_letters") == [(0,)]

    again = imported(closed_database, "--salvage", data_dir=data_dir)
    assert outcomes(again) == {"unchanged": ROWS}
    assert again["unreadable"] == summary["unreadable"]
    status = run("status", "--json", data_dir=data_dir).json
    assert status["unreadable"] == summary["unreadable"]

    closed_database.write_bytes(whole)
    touched = {(row_id - 1) // WIDTH for row_id in (*lost, *without_media)}
    stale = [row_id for row_id in ids if (row_id - 1) // WIDTH in touched]
    repaired = imported(closed_database, data_dir=data_dir)
    assert repaired["unreadable"] == []
    assert (repaired["total_records"], repaired["imported"]) == (len(stale), len(lost))
    assert sum(repaired["duplicates"].values()) == len(stale) - len(lost)
    assert [row_id for (row_id,) in rows_of_table(data_dir, "source_row_id")] == ids


def test_salvage_of_an_intact_file_is_a_normal_import(
    closed_database: Path, data_dir: Path
) -> None:
    assert outcomes(imported(closed_database, data_dir=data_dir))["imported"] == ROWS
    salvaged = imported(closed_database, "--salvage", data_dir=data_dir)
    assert outcomes(salvaged) == {"unchanged": ROWS}
    assert salvaged["unreadable"] == []


def test_a_dry_run_with_salvage_counts_the_readable_rows(
    closed_database: Path, data_dir: Path
) -> None:
    lost = damage(closed_database, ids_of(closed_database), METADATA, slice(60, 63))
    outcome = run("import", "--dry-run", "--salvage", closed_database, "--json", data_dir=data_dir)
    assert outcome.exit_code == 0
    assert outcomes(outcome.json) == {
        "total_records": ROWS,
        "processed": ROWS,
        "imported": ROWS - len(lost),
        "errors": len(lost),
    }
    assert outcome.json["unreadable"][0]["ids"] == [named(lost)]
    as_text = run("import", "--dry-run", "--salvage", closed_database, data_dir=data_dir)
    assert re.search(rf"^unreadable +{len(lost)}$", as_text.stdout, re.MULTILINE)
    assert f"could not read {len(lost)} rows of {METADATA}" in as_text.stderr
    assert not data_dir.exists()


def test_lost_user_names_do_not_lose_plays(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "tautulli.db"
    users = [{"user_id": i, "username": f"user {i}"} for i in range(500)]
    make_database(path, plays=[play(i, user_id=i) for i in range(1, 101)], users=users)
    settle(path)
    overwrite(path, tree_of(path, "users").leaves[:1])
    message = refused(run("import", path, data_dir=data_dir), data_dir)
    assert " rows of users, id 1-" in message
    summary = imported(path, "--salvage", data_dir=data_dir)
    assert outcomes(summary) == {"total_records": 100, "processed": 100, "imported": 100}
    nameless = query(data_dir, "SELECT count(*) FROM playback_events WHERE friendly_name IS NULL")
    # User 0 has no plays.
    assert nameless == [(summary["unreadable"][0]["rows"] - 1,)]


def test_a_truncated_file_is_reported_with_its_length(
    closed_database: Path, data_dir: Path
) -> None:
    whole_bytes = closed_database.stat().st_size
    ids = ids_of(closed_database)
    with closed_database.open("r+b") as file:
        file.truncate(whole_bytes * 2 // 3 + 100)
    for command in ("import", "validate"):
        message = refused(run(command, closed_database, data_dir=data_dir), data_dir)
        assert message == (
            f"cannot read all of {closed_database}: it is truncated "
            f"({whole_bytes * 2 // 3 + 100:,} of {whole_bytes:,} bytes)"
        )
    summary = imported(closed_database, "--salvage", data_dir=data_dir)
    assert summary["processed"] == summary["total_records"] == len(ids)
    assert summary["imported"] > 50
    assert summary["errors"] == len(ids) - summary["imported"] > 50


def test_a_file_without_a_readable_schema_cannot_be_salvaged(
    closed_database: Path, data_dir: Path
) -> None:
    content = closed_database.read_bytes()
    closed_database.write_bytes(content[:100] + b"\xff" * 924 + content[1024:])
    for arguments in ([], ["--salvage"]):
        outcome = run("import", closed_database, *arguments, "--json", data_dir=data_dir)
        assert outcome.exit_code == 3
        assert MALFORMED in outcome.json["error"]
        assert "backup" in outcome.json["hint"]
        assert "--salvage" not in outcome.json["hint"]
        assert len(outcome.stderr.splitlines()) == 2
        assert not data_dir.exists()


def test_a_file_without_readable_rows_cannot_be_salvaged(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 100)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"DELETE FROM {METADATA}")
        connection.execute(f"DELETE FROM {MEDIA_INFO}")
    settle(path)
    overwrite(path, [tree_of(path, HISTORY).root])
    outcome = run("import", "--salvage", path, data_dir=data_dir)
    assert outcome.exit_code == 3
    assert f"cannot salvage {path}: no row of {HISTORY} is readable" in outcome.stderr
    assert not data_dir.exists()


def hidden_damage(path: Path) -> None:
    """Damage the end of a long text of play 250, in a column that Tautulli does not have."""
    text = {"notes": "The end is missing. " * 500}
    plays = [play(i, media_info=text if i == 250 else {}) for i in range(1, 301)]
    make_database(path, plays=plays, extra_columns={MEDIA_INFO: [("notes", "TEXT")]})
    settle(path)
    content = bytearray(path.read_bytes())
    # A long text is a chain of pages. Each page starts with the number of the next one.
    at = content.index(b"The end is missing. " * 30)
    page = (at // 1024 + 1) * 1024
    content[page : page + 4] = b"\xff" * 4
    path.write_bytes(content)


def test_damage_at_the_end_of_a_row_is_found_before_the_import(
    tmp_path: Path, data_dir: Path
) -> None:
    path = tmp_path / "tautulli.db"
    hidden_damage(path)
    failed_import = run("import", path, "--batch-size", 10, "--json", data_dir=data_dir)
    assert failed_import.exit_code == 3, failed_import.stderr
    assert failed_import.json == {
        "error": f"cannot read all of {path}: 1 row of {MEDIA_INFO}, id 250 ({MALFORMED})",
        "hint": SALVAGE_HINT,
    }
    assert run("status", "--json", data_dir=data_dir).json["status"] == "pending"
    salvaged = imported(path, "--salvage", data_dir=data_dir)
    assert outcomes(salvaged) == {"total_records": 300, "processed": 300, "imported": 300}
    assert salvaged["unreadable"] == [
        {"table": MEDIA_INFO, "rows": 1, "ids": ["250"], "cause": MALFORMED}
    ]


def test_every_fuzzed_row_has_an_outcome(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 31)])
    fuzz(path, 3000, seed=3, one_in=12)
    with closing(sqlite3.connect(path)) as connection, connection:
        for row_id, megabytes in {3: 1, 5: 9, 7: 5, 9: 7}.items():
            text = "x" * megabytes * 2**20
            connection.execute(f"UPDATE {METADATA} SET summary = ? WHERE id = ?", (text, row_id))
    ids = ids_of(path)
    summary = imported(path, data_dir=data_dir)
    with_outcome = [
        row_id
        for name in ("playback_events", "dead_letters", "dedupe_audit_log")
        for (row_id,) in query(data_dir, f"SELECT source_row_id FROM {name}")
    ]
    assert sorted(with_outcome) == ids
    assert summary["processed"] == summary["total_records"] == len(ids)
    assert (5,) in query(data_dir, "SELECT source_row_id FROM dead_letters")
    replaced = query(
        data_dir, "SELECT count(*) FROM playback_events WHERE platform LIKE '%\ufffd%'"
    )
    assert replaced[0][0] > 5
    (record,) = query(data_dir, "SELECT record::VARCHAR FROM dead_letters LIMIT 1")[0]
    assert HISTORY in json.loads(record)
