"""The warehouse can be opened after a writer was killed between any two batches."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from tautulli_pipeline.errors import WarehouseBrokenError
from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION as FULL
from tautulli_pipeline.warehouse.schema import connect, open_warehouse
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, sequences, writer

WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.warehouse.plays import batch, message, writer
from tautulli_pipeline_tests.warehouse.test_log import play_from
connection, source = connect(Path(sys.argv[1]), {}), sys.argv[2]
writer, number = writer(connection), int(sys.argv[3])
for size in map(int, sys.argv[4:]):
    # If the size is negative, the last message repeats the play before it.
    numbers = list(range(number, number + abs(size)))
    plays = numbers[:-1] + [numbers[-1] - (size < 0)]
    writer.write(batch(message(n, play_from(source, p)) for n, p in zip(numbers, plays)))
    number += abs(size)
os._exit(9)
"""


def play_from(source: str, number: int) -> dict[str, object]:
    """Return a play with two kilobytes of text that does not compress well."""
    letters = random.Random(number).choices("abcdefghijklmnop ", k=2000)
    return event(number, source=source, summary="".join(letters))


# Events of this pipeline and of other producers are inserted by different statements.
@pytest.mark.parametrize(
    "source", ["tautulli-import", pytest.param("plex", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([FULL, 10, -FULL, FULL], [5, FULL], marks=pytest.mark.slow),
        ([10, FULL], [30]),
    ],
)
def test_whole_row_groups_and_loose_rows_survive_crashes(
    before: list[int], after: list[int], source: str, tmp_path: Path
) -> None:
    warehouse, first, expected = tmp_path / "playback.duckdb", 1, []
    for sizes in (before, after, [1]):
        arguments = [str(warehouse), source, str(first), *map(str, sizes)]
        died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, *arguments], check=False)
        assert died.returncode == 9
        for size in sizes:
            expected += range(first, first + abs(size) - (size < 0))
            first += abs(size)
    with closing(connect(warehouse, {})) as connection:
        assert sequences(connection) == expected


@pytest.mark.parametrize("sizes", [[30, FULL, 500], [FULL, FULL, 100, 3]])
def test_a_warehouse_opens_after_any_sequence_of_sessions(sizes: list[int], tmp_path: Path) -> None:
    """Closing and opening write the log into the file, which takes whole row groups of memory."""
    first = 1
    for size in sizes:
        with open_warehouse(tmp_path / "playback.duckdb") as connection:
            numbers = range(first, first + size)
            plays = (message(n, play_from("tautulli-import", n)) for n in numbers)
            writer(connection).write(batch(plays))
        first += size
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        assert sequences(connection) == [*range(1, first)]


def play_of(number: int) -> dict[str, object]:
    return event(number, source="tautulli-import", summary="x" * 1_000_000)


@pytest.mark.slow
def test_loose_rows_with_huge_texts_do_not_exhaust_memory(tmp_path: Path) -> None:
    """Ten transactions of 28 MB each; DuckDB keeps loose rows until a checkpoint."""
    with closing(connect(tmp_path / "playback.duckdb", {})) as connection:
        loose = writer(connection)
        for first in range(1, 281, 28):
            loose.write(batch(message(n, play_of(n)) for n in range(first, first + 28)))
        assert sequences(connection) == [*range(1, 281)]


def with_summary(number: int, size: int, **fields: object) -> tuple[object, ...]:
    summary = random.Random(number).randbytes(size // 2).hex()
    return message(number, event(number, source="tautulli-import", summary=summary, **fields))


def row_groups(connection: duckdb.DuckDBPyConnection, table: str = "playback_events") -> list[int]:
    """Return the number of rows in each row group."""
    found = connection.execute(
        f"SELECT max(count) FROM pragma_storage_info('{table}') "
        "WHERE column_name = 'id' GROUP BY row_group_id ORDER BY row_group_id"
    ).fetchall()
    return [count for (count,) in found]


def test_large_plays_begin_a_row_group_after_each_checkpoint(tmp_path: Path) -> None:
    """In one row group, each checkpoint would write all of them again."""
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        writes = writer(connection)
        for first in range(1, 37, 6):
            writes.write(batch(with_summary(n, 1_000_000) for n in range(first, first + 6)))
        assert sequences(connection) == [*range(1, 37)]
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        assert row_groups(connection) == [16, 14, 6]  # 16 MiB at most
        lengths = "SELECT DISTINCT length(summary) FROM playback_events"
        assert connection.execute(lengths).fetchall() == [(1_000_000,)]


def test_a_large_play_each_night_and_small_ones_in_between_fill_few_row_groups(
    tmp_path: Path,
) -> None:
    first = 1
    for sizes in ([10], [10, 10], [100_000], [10, 10, 10], [10], [100_000]):
        with open_warehouse(tmp_path / "playback.duckdb") as connection:
            plays = (with_summary(n, size) for n, size in enumerate(sizes, first))
            writer(connection).write(batch(plays))
        first += len(sizes)
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        assert row_groups(connection) == [3, 5, 1]
        assert sequences(connection) == [*range(1, first)]


def test_row_groups_of_large_plays_and_revisions_stay_apart(tmp_path: Path) -> None:
    """Joining them reads all of their rows: after 60 revisions of 4 MB, every import failed."""
    correction = {"stream_id": "corrections"}
    plays = range(1, 37)
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        writer(connection).write(batch(with_summary(n, 10) for n in [*plays, 100]))
        revising = writer(connection, **correction)
        for first in range(1, 37, 6):
            numbers = range(first, first + 6)
            revising.write(batch(with_summary(n, 1_000_000) for n in numbers))
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        writer(connection, **correction).write(batch([with_summary(100, 10, title="New")]))
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        assert row_groups(connection, "playback_revisions") == [16, 14, 6, 1]
        assert connection.execute("SELECT count(*) FROM playback_events").fetchall() == [(37,)]


def test_small_row_groups_of_small_revisions_are_joined(tmp_path: Path) -> None:
    for number, title in enumerate(["First", "Second", "Third"], 1):
        with open_warehouse(tmp_path / "playback.duckdb") as connection:
            play = event(1, source="tautulli-import", title=title)
            writer(connection).write(batch([message(number, play)]))
    with open_warehouse(tmp_path / "playback.duckdb") as connection:
        assert row_groups(connection, "playback_revisions") == [2]


def test_another_program_that_takes_the_file_while_it_is_reopened_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "playback.duckdb"
    with open_warehouse(path) as connection:

        def locked(*_arguments: object) -> None:
            raise duckdb.IOException(f"Could not set lock on file {path}: Conflicting lock")

        monkeypatch.setattr("tautulli_pipeline.warehouse.schema._attach", locked)
        with pytest.raises(WarehouseBrokenError, match="cannot open the warehouse"):
            writer(connection).write(batch([with_summary(1, 100_000)]))


def test_a_warehouse_without_a_log_survives_crashes(tmp_path: Path) -> None:
    folder = tmp_path / "a?b"
    folder.mkdir()
    warehouse, sizes = folder / "playback.duckdb", [30, FULL, 500]
    arguments = [str(warehouse), "plex", "1", *map(str, sizes)]
    died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, *arguments], check=False)
    assert died.returncode == 9
    assert not [path for path in folder.iterdir() if ".wal" in path.name]
    with closing(connect(warehouse, {})) as connection:
        found = connection.execute("SELECT count(*) FROM playback_events").fetchall()
    assert found == [(sum(sizes),)]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
