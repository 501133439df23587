"""Imports of a running Tautulli over its API: the same plays, few downloads, no key anywhere."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.imports import fingerprints
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import (
    imported,
    nothing_runs,
    query,
    run,
    run_process,
    wait_until,
)
from tautulli_pipeline_tests.tautulli_server import KEY, Running, serving_tautulli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAYS = [play(n) for n in range(1, 8)] + [play(8, title="")]


@pytest.fixture
def tautulli(tmp_path: Path) -> Iterator[Running]:
    make_database(tmp_path / "tautulli.db", plays=PLAYS)
    with serving_tautulli(tmp_path / "tautulli.db", root="/tautulli") as running:
        yield running


def rows(data_dir: Path) -> list[tuple[Any, ...]]:
    return query(
        data_dir,
        "SELECT * EXCLUDE (import_id, stream_id, created_at) FROM playback_events ORDER BY id",
    )


def execute(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql)


def test_the_whole_history_arrives_and_only_new_plays_or_time_cause_a_download(
    tautulli: Running, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*options: object, **variables: object) -> dict[str, Any]:
        return imported(
            tautulli.url, *options, data_dir=data_dir, TAUTULLI_API_KEY=KEY, **variables
        )

    first = again()
    assert (first["imported"], first["rejected"], first["source"]) == (7, 1, tautulli.url)
    imported(tautulli.database, data_dir=tmp_path / "from the file")
    assert rows(data_dir) == rows(tmp_path / "from the file")
    assert tautulli.downloads() == 1

    # Nothing new: edits do not show, until 24 hours have passed or with --fresh.
    execute(tautulli.database, "UPDATE session_history_metadata SET title = 'Edited' WHERE id = 2")
    assert again()["unchanged"] == 8
    assert tautulli.downloads() == 1
    monkeypatch.setattr(fingerprints, "_SLACK_SECONDS", 0.0)
    assert again(TAUTULLI_MAX_AGE_HOURS=0)["total_records"] == 8
    assert tautulli.downloads() == 2
    assert again("--fresh")["total_records"] == 8
    assert tautulli.downloads() == 3

    # A new play, in a partition that is finished.
    make_database(tmp_path / "newer.db", plays=[*PLAYS, play(9)])
    shutil.move(tmp_path / "newer.db", tautulli.database)
    assert again()["imported"] == 1
    assert tautulli.downloads() == 4
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(8,)]

    shown = run("status", data_dir=data_dir).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("corrections up to"))
    at = datetime.strptime(line.split(maxsplit=3)[3].strip(), "%Y-%m-%d %H:%M:%S %Z")
    assert abs((datetime.now(UTC) - at.replace(tzinfo=UTC)).total_seconds()) < 600
    assert_no_key_below(data_dir)


def assert_no_key_below(folder: Path) -> None:
    wait_until(lambda: nothing_runs(folder))  # the server removes its files as it ends
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert not (folder / "snapshots").exists() or not list((folder / "snapshots").iterdir())


@pytest.mark.slow
def test_what_is_planned_is_what_was_downloaded(tautulli: Running, data_dir: Path) -> None:
    imported(tautulli.url, data_dir=data_dir, TAUTULLI_API_KEY=KEY)
    (data_dir / "playback.duckdb").unlink()  # so that everything is due again
    # The number of plays and the newest id stay the same, so a look does not show it.
    execute(tautulli.database, "UPDATE session_history SET id = -5 WHERE id = 3")
    execute(tautulli.database, "UPDATE session_history_metadata SET id = -5 WHERE id = 3")
    summary = imported(tautulli.url, data_dir=data_dir, TAUTULLI_API_KEY=KEY)
    assert (summary["status"], summary["total_records"]) == ("completed", 8)
    assert tautulli.downloads() == 2
    found = query(data_dir, "SELECT source_row_id FROM playback_events ORDER BY 1")
    assert [row_id for (row_id,) in found] == [-5, 1, 2, 4, 5, 6, 7]


def test_the_key_can_be_in_a_file_and_is_never_shown(
    tautulli: Running, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    outcome = run_process(
        *("--debug", "validate", tautulli.url, "--json"),
        data_dir=data_dir,
        TAUTULLI_API_KEY_FILE=tmp_path / "key",
    )
    assert json.loads(outcome.stdout)["total_records"] == 8
    assert KEY not in outcome.stdout + outcome.stderr
    assert not data_dir.exists()
    tautulli.fault = lambda handler, _command: handler.connection.close() or True
    failed = run("--debug", "import", tautulli.url, data_dir=data_dir, TAUTULLI_API_KEY=KEY)
    assert failed.exit_code == 3
    assert "Traceback" in failed.stderr
    assert KEY not in failed.stdout + failed.stderr


@pytest.mark.parametrize(
    ("variables", "exit_code", "reason"),
    [
        ({}, 2, "there is no API key for {url}"),
        ({"TAUTULLI_API_KEY": "f" * 32}, 3, "it refuses the API key"),
        ({"TAUTULLI_API_KEY_FILE": "none"}, 2, "cannot read the API key in none: No such file"),
    ],
)
def test_a_missing_or_wrong_key_is_explained(
    tautulli: Running,
    data_dir: Path,
    variables: dict[str, str],
    exit_code: int,
    reason: str,
) -> None:
    for words in (("import", tautulli.url), ("validate",)):
        outcome = run(*words, "--json", data_dir=data_dir, IMPORT_DB_PATH=tautulli.url, **variables)
        assert outcome.exit_code == exit_code
        assert reason.format(url=tautulli.url) in outcome.json["error"]
        assert not data_dir.exists()
