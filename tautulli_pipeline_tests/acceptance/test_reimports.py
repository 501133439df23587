"""Imports of the same plays again, after changes to the source, the stream or the table."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline_tests.cases import DEFAULT_STARTED_AT, Play, make_database, play
from tautulli_pipeline_tests.command import imported, nothing_runs, outcomes, query, run

if TYPE_CHECKING:
    from pathlib import Path

# Three partitions of ten ids.
PLAYS = {row_id: play(row_id) for row_id in range(1, 26)}
# Every column except those that tell when and over which stream a row arrived.
CONTENT = (
    "SELECT * EXCLUDE (import_id, stream_id, stream_sequence, created_at) "
    "FROM playback_events ORDER BY source_row_id"
)
REVISIONS = "SELECT source_row_id, revision, title, import_id FROM playback_revisions"
AUDIT = (
    "SELECT source_row_id, dedupe_layer, dedupe_reason, content_differs "
    "FROM dedupe_audit_log WHERE import_id = ? ORDER BY 1"
)


def write(data_dir: Path, plays: dict[int, Play], name: str = "tautulli.db") -> Path:
    database = data_dir.with_name(name)
    database.unlink(missing_ok=True)
    make_database(database, plays=plays.values())
    return database


def renumbered(row_id: int) -> Play:
    """Return the same play under the new id that a merge gives it."""
    started = DEFAULT_STARTED_AT + 10_000 * row_id
    return play(row_id + 100_000, started=started, rating_key=100 + row_id)


def partitions_of(data_dir: Path, summary: dict[str, Any]) -> list[str]:
    ledger = "SELECT partition_key FROM import_ledger WHERE import_id = ? ORDER BY 1"
    return [key for (key,) in query(data_dir, ledger, summary["import_id"])]


def test_only_what_changed_is_imported_again_and_fresh_imports_all(data_dir: Path) -> None:
    database = write(data_dir, PLAYS)
    first = imported(database, "--batch-size", 10, data_dir=data_dir)
    assert outcomes(first) == {"total_records": 25, "processed": 25, "imported": 25}
    before = query(data_dir, CONTENT)

    again = imported(database, data_dir=data_dir)
    assert outcomes(again) == {"unchanged": 25}
    assert (again["published"], again["progress"], again["status"]) == (0, 100, "completed")
    assert partitions_of(data_dir, again) == []

    assert nothing_runs(data_dir)  # a stream server that still runs remembers message ids
    write(data_dir, PLAYS | {5: play(5, title="Edited"), 26: play(26)})
    touched = imported(database, data_dir=data_dir)
    assert outcomes(touched) == {
        "total_records": 16,
        "processed": 16,
        "unchanged": 10,
        "imported": 1,
        "database": 15,
    }
    assert partitions_of(data_dir, touched) == ["0000000001-0000000010", "0000000021-0000000030"]
    assert query(data_dir, CONTENT)[:25] == before
    assert touched["revised"] == 1
    assert query(data_dir, REVISIONS) == [(5, 1, "Edited", touched["import_id"])]

    assert nothing_runs(data_dir)
    before = query(data_dir, CONTENT)
    fresh = imported(database, "--fresh", data_dir=data_dir)
    assert outcomes(fresh) == {"total_records": 26, "processed": 26, "database": 26}
    assert query(data_dir, "SELECT count(*) FROM dedupe_audit_log") == [(0,)]
    assert len(query(data_dir, REVISIONS)) == 1
    assert query(data_dir, CONTENT) == before


def test_renumbered_plays_and_a_lost_stream_add_no_rows(data_dir: Path) -> None:
    database = write(data_dir, PLAYS)
    imported(database, data_dir=data_dir)
    before = query(data_dir, CONTENT)

    assert nothing_runs(data_dir)
    merged = write(data_dir, {row_id: renumbered(row_id) for row_id in PLAYS}, "merged.db")
    same = imported(merged, data_dir=data_dir)
    assert outcomes(same) == {"total_records": 25, "processed": 25, "database": 25}
    assert query(data_dir, AUDIT, same["import_id"]) == [
        (row_id + 100_000, "database", "rating_key_user_started", True) for row_id in PLAYS
    ]
    assert query(data_dir, CONTENT) == before

    assert nothing_runs(data_dir)
    shutil.rmtree(data_dir / "nats")
    over_a_new_stream = imported(database, data_dir=data_dir)
    assert outcomes(over_a_new_stream) == {"total_records": 25, "processed": 25, "database": 25}
    assert query(data_dir, CONTENT) == before


@pytest.mark.slow
def test_duplicates_on_the_stream_are_published_again_if_the_table_lacks_them(
    data_dir: Path,
) -> None:
    database = write(data_dir, PLAYS)
    with embedded_server(data_dir):  # it remembers message ids as long as it runs
        imported(database, data_dir=data_dir)
        before = query(data_dir, CONTENT)

        fresh = imported(database, "--fresh", data_dir=data_dir)
        assert outcomes(fresh) == {"total_records": 25, "processed": 25, "stream": 25}
        assert fresh["published"] == 0
        assert query(data_dir, CONTENT) == before

        (data_dir / "playback.duckdb").unlink()
        again = imported(database, data_dir=data_dir)
        assert outcomes(again) == {"total_records": 25, "processed": 25, "imported": 25}
        assert query(data_dir, CONTENT) == before


@pytest.mark.slow
def test_an_edit_that_was_half_published_and_taken_back_does_not_stay(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = write(data_dir, PLAYS)
    imported(database, "--batch-size", 10, data_dir=data_dir)
    write(data_dir, PLAYS | {5: play(5, title="Edited")})
    with monkeypatch.context() as patch:
        # As if it were killed after the events of a partition and before its record.
        patch.setattr(ReceiptFolder, "write", Mock(side_effect=OSError(28, "the disk is full")))
        assert run("import", database, data_dir=data_dir).exit_code == 2

    write(data_dir, PLAYS)
    again = imported(database, data_dir=data_dir)
    assert outcomes(again)["unchanged"] == 15
    newest = "SELECT title FROM playback_revisions WHERE source_row_id = 5 ORDER BY revision"
    assert query(data_dir, newest) == [("Edited",), ("Film 5",)]
    assert outcomes(imported(database, data_dir=data_dir)) == {"unchanged": 25}


@pytest.mark.slow
def test_a_correction_that_came_with_a_deleted_play_arrives_with_the_next_one(
    data_dir: Path,
) -> None:
    right = {5: play(5, title="Right")}
    database = write(data_dir, PLAYS)
    imported(database, "--batch-size", 10, data_dir=data_dir)
    write(data_dir, {row_id: PLAYS[row_id] for row_id in range(1, 25)} | right)
    assert imported(database, data_dir=data_dir)["revised"] == 0
    assert outcomes(imported(database, data_dir=data_dir)) == {"unchanged": 24}

    write(data_dir, PLAYS | right | {35: play(35)})
    again = imported(database, data_dir=data_dir)
    assert (again["revised"], outcomes(again)["unchanged"]) == (1, 10)
    assert query(data_dir, "SELECT title FROM playback_revisions") == [("Right",)]
    assert outcomes(imported(database, data_dir=data_dir)) == {"unchanged": 26}
