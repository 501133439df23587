"""An import of several servers looks only at those that may have something new."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import duckdb
import pytest

from tautulli_pipeline.cli import servers
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.orchestration import command_line
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline_tests.cases import insert_rows, make_database, play
from tautulli_pipeline_tests.command import (
    imported,
    nothing_runs,
    query,
    run,
    short_run,
    start,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDS = ("home", "cabin", "barn")
PLAYS = 20
FILE = "\n".join(f'[[servers]]\nid = "{one}"\nsource = "../{one}.db"\n' for one in IDS)
TIMES = {"import_id", "start_time", "end_time", "checked_time", "elapsed_seconds"}
# A newer file could change within one tick of its times.
SETTLED_SECONDS = 0.6
COUNTS = "SELECT server_id, count(*) FROM playback_events GROUP BY ALL ORDER BY 1"


@dataclass
class Looked:
    """What an import did the long way.

    Attributes:
        at: the servers that it opened.
        builds: how often it built the statistics.
    """

    at: list[str] = field(default_factory=list)
    builds: int = 0


@contextmanager
def looked() -> Iterator[Looked]:
    found = Looked()

    def import_one(settings: Any, *arguments: Any, **options: Any) -> Any:
        found.at.append(settings.server)
        return servers_import_one(settings, *arguments, **options)

    def build(*arguments: Any) -> Any:
        found.builds += 1
        return build_by_job(*arguments)

    servers_import_one, build_by_job = servers.import_one, command_line.build_by_job
    with (
        patch.object(servers, "import_one", import_one),
        patch.object(command_line, "build_by_job", build),
    ):
        yield found


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with the plays of all servers."""
    folder = tmp_path_factory.mktemp("imported")
    for n, server in enumerate(IDS):
        plays = [play(row, started=1_600_000_000 + 9_000 * row + n) for row in range(1, PLAYS + 1)]
        make_database(folder / f"{server}.db", plays=plays)
    (folder / "data").mkdir()
    (folder / "data" / "pipeline.toml").write_text(FILE)
    time.sleep(SETTLED_SECONDS)
    with looked() as first:
        imported(data_dir=folder / "data")
    assert (first.at, first.builds) == ([*IDS], 1)
    yield folder / "data"
    assert nothing_runs(folder / "data")


@pytest.fixture
def data_dir(known: Path) -> Path:
    """The data directory, of whose servers nothing is new."""
    imported(data_dir=known)
    return known


def add_play(data_dir: Path, server: str) -> None:
    with closing(sqlite3.connect(data_dir.with_name(f"{server}.db"))) as connection, connection:
        ((last,),) = connection.execute("SELECT max(id) FROM session_history").fetchall()
        new = play(last + 1, started=1_700_000_000 + 9_000 * last + IDS.index(server))
        for name, row in (
            ("session_history", new.history),
            ("session_history_metadata", new.metadata),
            ("session_history_media_info", new.media_info),
        ):
            assert row is not None
            insert_rows(connection, name, [row])
    time.sleep(SETTLED_SECONDS)


def in_statistics(data_dir: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(data_dir / "analytics.duckdb", read_only=True) as connection:
        sql = "SELECT server_id, count(*) FROM plays GROUP BY ALL ORDER BY 1"
        return connection.execute(sql).fetchall()


def untimed(summary: dict[str, Any]) -> dict[str, Any]:
    of_each = [{**one, **dict.fromkeys(TIMES)} for one in summary["servers"]]
    return {**summary, **dict.fromkeys(TIMES), "servers": of_each}


def test_a_repeat_takes_the_short_way_with_the_same_result(data_dir: Path) -> None:
    with looked() as at_nothing:
        short = imported(data_dir=data_dir)
    assert (at_nothing.at, at_nothing.builds) == ([], 0)
    DataDir(data_dir).repeats.unlink()
    with looked() as at_all:
        long = imported(data_dir=data_dir)
    assert (at_all.at, at_all.builds) == ([*IDS], 0)
    assert untimed(short) == untimed(long)
    assert (short["status"], short["published"]) == ("completed", 0)


def test_the_short_way_loads_neither_dagster_nor_duckdb_nor_nats(data_dir: Path) -> None:
    loaded, seconds = short_run("import", data_dir=data_dir)
    assert loaded == set()
    assert seconds < 1.5


def test_only_servers_with_new_plays_are_imported_and_the_statistics_are_built_once(
    data_dir: Path,
) -> None:
    before = dict(query(data_dir, COUNTS))
    add_play(data_dir, "home")
    add_play(data_dir, "barn")
    with looked() as found:
        summary = imported(data_dir=data_dir)
    assert (found.at, found.builds) == (["home", "barn"], 1)
    assert [one["imported"] for one in summary["servers"]] == [1, 0, 1]
    after = before | {"home": before["home"] + 1, "barn": before["barn"] + 1}
    assert dict(query(data_dir, COUNTS)) == dict(in_statistics(data_dir)) == after
    with looked() as again:
        imported(data_dir=data_dir)
    assert (again.at, again.builds) == ([], 0)


def test_a_broken_server_keeps_neither_the_short_way_nor_the_statistics_from_the_others(
    data_dir: Path,
) -> None:
    before = dict(query(data_dir, COUNTS))
    add_play(data_dir, "barn")
    home = data_dir.with_name("home.db")
    away = home.rename(home.with_name("away.db"))
    with looked() as found:
        night = run("import", "--json", data_dir=data_dir)
    assert (night.exit_code, night.json["error"].partition(":")[0]) == (3, "home")
    assert (found.at, found.builds) == (["home", "barn"], 1)
    assert dict(in_statistics(data_dir)) == before | {"barn": before["barn"] + 1}
    # The same file is back, and it may have been another one in between.
    away.rename(home)
    with looked() as back:
        healed = imported(data_dir=data_dir)
    assert (back.at, healed["published"]) == (["home"], 0)
    assert run("health", data_dir=data_dir).exit_code == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("a deleted row", marks=pytest.mark.slow),
        pytest.param("wiped partitions", marks=pytest.mark.slow),
        pytest.param("a reset", marks=pytest.mark.slow),
    ],
)
def test_a_change_of_what_is_shared_takes_the_long_way(data_dir: Path, change: str) -> None:
    before = dict(query(data_dir, COUNTS))
    if change == "a deleted row":
        with duckdb.connect(data_dir / "playback.duckdb") as connection:
            (stored,) = connection.execute("SELECT max(id) FROM playback_events").fetchall()
            connection.execute("DELETE FROM playback_events WHERE id = ?", stored)
    elif change == "wiped partitions":
        with open_instance(data_dir) as instance:
            instance.wipe_assets([Names("cabin").stream_key])
    else:
        run("reset", "--server", "cabin", data_dir=data_dir)
    with looked() as found:
        summary = imported(data_dir=data_dir)
    assert found.at == [*IDS]
    covered = 0 if change == "a deleted row" else before["cabin"]
    assert [one["total_records"] for one in summary["servers"]] == [0, covered, 0]
    with looked() as again:
        imported(data_dir=data_dir)
    assert again.at == []


@pytest.mark.slow
def test_a_new_time_zone_builds_the_statistics_and_imports_nothing(data_dir: Path) -> None:
    file = data_dir / "pipeline.toml"
    file.write_text(f'timezone = "Asia/Tokyo"\n{FILE}')
    with looked() as found:
        imported(data_dir=data_dir)
    assert (found.at, found.builds) == ([], 1)
    file.write_text(FILE)


@pytest.mark.slow
def test_fresh_covers_every_play(data_dir: Path) -> None:
    with looked() as found:
        summary = imported("--fresh", "--server", "cabin", data_dir=data_dir)
    assert found.at == ["cabin"]
    assert summary["total_records"] == dict(query(data_dir, COUNTS))["cabin"]
    with looked() as again:
        imported(data_dir=data_dir)
    assert again.at == []


@pytest.mark.slow
def test_an_import_killed_at_the_second_server_is_resumed_there(data_dir: Path) -> None:
    before = dict(query(data_dir, COUNTS))
    for server in IDS[1:]:
        add_play(data_dir, server)
    process = start("import", data_dir=data_dir)
    lock = ImportLock(data_dir)
    wait_until(lambda: (holder := lock.holder()) and holder.server == "cabin")
    wait_until(lock.has_recorded)
    process.kill()
    process.communicate()
    summary = imported(data_dir=data_dir)
    assert summary["status"] == "completed"
    after = before | {server: before[server] + 1 for server in IDS[1:]}
    assert dict(query(data_dir, COUNTS)) == dict(in_statistics(data_dir)) == after
    with looked() as again:
        imported(data_dir=data_dir)
    assert again.at == []
