"""An import with nothing new takes a short way, which notices every change that matters."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import nats
import pytest

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports import fingerprints, repeats
from tautulli_pipeline.imports.record import ImportLog, Status
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import ONLY
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import imported, nothing_runs, query, run, short_run
from tautulli_pipeline_tests.external_server import external_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLAYS = 25
# Other times than these are equal on both ways.
TIMES = {"import_id", "start_time", "end_time", "elapsed_seconds"}
SETTLED_SECONDS = 0.6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a database and the data directory that it was imported into."""
    folder = tmp_path_factory.mktemp("imported")
    make_database(folder / "tautulli.db", plays=[play(n) for n in range(1, PLAYS + 1)])
    time.sleep(SETTLED_SECONDS)  # a newer file could change within one tick of its times
    imported(folder / "tautulli.db", data_dir=folder / "data")
    yield folder
    assert nothing_runs(folder / "data")


@contextmanager
def looked(data_dir: Path) -> Iterator[list[bool]]:
    """Tell afterwards whether an import looked at everything: it then forgets what it knew."""
    file, found = DataDir(data_dir).repeats, list[bool]()
    before = file.stat().st_mtime_ns if file.exists() else 0
    yield found
    found.append(not file.exists() or file.stat().st_mtime_ns != before)


def import_again(folder: Path, *arguments: object, **variables: object) -> tuple[Any, bool]:
    """Import; return the summary, and whether the import looked at everything."""
    data_dir = folder / "data"
    with looked(data_dir) as found:
        summary = imported(folder / "tautulli.db", *arguments, data_dir=data_dir, **variables)
    return summary, found[0]


def is_short(folder: Path) -> bool:
    return not import_again(folder)[1]


def edit(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)
    time.sleep(SETTLED_SECONDS)


def test_a_repeat_takes_the_short_way_with_the_same_result(folder):
    assert is_short(folder)
    short, _ = import_again(folder)
    DataDir(folder / "data").repeats.write_text("{}")
    long, looked_at_all = import_again(folder)
    assert looked_at_all
    assert {**short, **dict.fromkeys(TIMES)} == {**long, **dict.fromkeys(TIMES)}
    assert short["unchanged"] == PLAYS
    words = [run("import", folder / "tautulli.db", data_dir=folder / "data") for _ in range(2)]
    assert words[0].stdout == words[1].stdout
    assert words[0].stdout.startswith(f"nothing new: {PLAYS} plays of ")


def test_the_short_way_loads_neither_dagster_nor_duckdb_nor_nats(folder):
    assert is_short(folder)
    with looked(folder / "data") as found:
        loaded, _ = short_run("import", folder / "tautulli.db", data_dir=folder / "data")
    assert not found[0]
    assert loaded == set()


def test_status_and_health_show_that_a_repeat_found_nothing_new(folder):
    data_dir = folder / "data"
    last = ImportLog(data_dir).read()
    assert last is not None
    ImportLog(data_dir).write(replace(last, checked_at=None, refused="it was away"))
    assert run("health", data_dir=data_dir).exit_code == 1
    assert is_short(folder)
    status = run("status", "--json", data_dir=data_dir).json
    assert (status["status"], status["imported"]) == ("completed", PLAYS)
    assert status["checked_time"] is not None
    assert run("health", data_dir=data_dir).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        {"IMPORT_SERVER_ID": "cabin", "IMPORT_SERVER_REPLACES": "default"},
        pytest.param({"NATS_DUPLICATE_WINDOW_SECONDS": 60}, marks=pytest.mark.slow),
        {"IMPORT_BATCH_SIZE": 10},
        pytest.param({"PIPELINE_TIMEZONE": "Asia/Tokyo"}, marks=pytest.mark.slow),
    ],
)
def test_another_setting_takes_the_long_way(folder, options):
    assert is_short(folder) or is_short(folder)
    assert import_again(folder, **options)[1]


def test_a_fresh_import_covers_every_play(folder):
    assert is_short(folder) or is_short(folder)
    summary, looked_at_all = import_again(folder, "--fresh")
    assert looked_at_all
    assert summary["total_records"] == PLAYS


@pytest.mark.parametrize("module", [fingerprints, repeats])
def test_another_version_takes_the_long_way(folder, module, monkeypatch):
    assert is_short(folder) or is_short(folder)
    name = "SURVEY_VERSION" if module is fingerprints else "_VERSION"
    monkeypatch.setattr(module, name, "9.9.9")
    assert not is_short(folder)


def touch(folder: Path) -> None:
    (folder / "tautulli.db").touch()
    time.sleep(SETTLED_SECONDS)


def delete_a_row(folder: Path) -> None:
    with duckdb.connect(folder / "data" / "playback.duckdb") as connection:
        connection.execute("DELETE FROM playback_events WHERE source_row_id = 3")


def wipe_partitions(folder: Path) -> None:
    with open_instance(folder / "data") as instance:
        instance.wipe_assets([ONLY.stream_key])


def stop_an_import(folder: Path) -> None:
    log = ImportLog(folder / "data")
    last = log.read()
    assert last is not None
    log.write(last.ended(Status.STOPPED))


def slow(change: Callable[[Path], object], covered: int) -> Any:
    return pytest.param(change, covered, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("change", "covered"),
    [
        slow(lambda folder: edit(folder / "tautulli.db", "UPDATE users SET email = 'a'"), 0),
        (lambda folder: edit(folder / "tautulli.db", "UPDATE session_history SET stopped = 9"), 25),
        slow(touch, 0),
        slow(delete_a_row, 0),
        (wipe_partitions, PLAYS),
        (lambda folder: run("reset", data_dir=folder / "data"), PLAYS),
        pytest.param(
            lambda folder: shutil.rmtree(folder / "data" / "nats" / "jetstream"),
            PLAYS,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda folder: (folder / "data" / "playback.duckdb").unlink(),
            PLAYS,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda folder: (folder / "data" / "analytics.duckdb").unlink(),
            0,
            marks=pytest.mark.slow,
        ),
        slow(stop_an_import, PLAYS),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_change_takes_the_long_way(folder: Path, change: Callable[[Path], object], covered: int):
    assert is_short(folder) or is_short(folder)
    assert nothing_runs(folder / "data")
    change(folder)
    summary, looked_at_all = import_again(folder)
    assert looked_at_all
    assert summary["total_records"] == covered
    assert is_short(folder)


@pytest.mark.slow
def test_a_leftover_receipt_takes_the_long_way(folder):
    assert is_short(folder) or is_short(folder)
    receipt = folder / "data" / "receipts" / "20200101T000000-00000000" / "other"
    receipt.parent.mkdir(parents=True)
    receipt.write_bytes(b"not a receipt")
    with looked(folder / "data") as found:
        run("import", folder / "tautulli.db", data_dir=folder / "data")
    assert found[0]
    shutil.rmtree(folder / "data" / "receipts")


def test_a_source_that_is_gone_is_reported_and_noted(folder):
    assert is_short(folder) or is_short(folder)
    away = (folder / "tautulli.db").rename(folder / "away.db")
    assert run("import", folder / "tautulli.db", data_dir=folder / "data").exit_code == 3
    assert run("health", data_dir=folder / "data").exit_code == 1
    away.rename(folder / "tautulli.db")
    time.sleep(SETTLED_SECONDS)
    assert imported(folder / "tautulli.db", data_dir=folder / "data")["unchanged"] == PLAYS


def test_a_stream_server_that_runs_is_asked_what_waits_on_it(folder):
    assert is_short(folder) or is_short(folder)
    data_dir = folder / "data"
    with embedded_server(data_dir) as server:
        assert is_short(folder)
        event = {"event_id": "e1", "source": "plex", "user_id": 7, "media_type": "movie"}
        event |= {"started_at": "2024-01-01T00:00:00Z", "title": "Film", "rating_key": "5"}
        asyncio.run(publish(server.url, event, user=server.user, password=server.password))
        assert not is_short(folder)
        assert query(data_dir, "SELECT title FROM playback_events WHERE source = 'plex'") == [
            ("Film",)
        ]
    # Something else may have used it since.
    assert not is_short(folder)
    assert is_short(folder)


@pytest.mark.slow
def test_an_existing_stream_is_asked_what_waits_on_it(folder, tmp_path):
    make_database(tmp_path / "tautulli.db", plays=[play(1)])
    time.sleep(SETTLED_SECONDS)
    with external_server(tmp_path / "stream") as server:
        to = {"NATS_URL": server.url}
        imported(tmp_path / "tautulli.db", data_dir=tmp_path / "data", **to)
        assert not import_again(tmp_path, **to)[1]
        event = {"event_id": "e1", "source": "plex", "user_id": 7, "media_type": "movie"}
        event |= {"started_at": "2024-01-01T00:00:00Z", "title": "Film", "rating_key": "5"}
        asyncio.run(publish(server.url, event))
        assert import_again(tmp_path, **to)[1]
        assert query(tmp_path / "data", "SELECT count(*) FROM playback_events") == [(2,)]
        assert not import_again(tmp_path, **to)[1]
    assert nothing_runs(tmp_path / "data")


async def publish(url: str, event: dict[str, Any], **login: str) -> None:
    client = await nats.connect(url, **login)
    await client.jetstream().publish("playback.plex.movie", json.dumps(event).encode())
    await client.close()
