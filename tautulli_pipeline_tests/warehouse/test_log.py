"""The warehouse can be opened after a writer was killed between any two batches."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION as FULL
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, sequences, writer

WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, writer
connection = connect(Path(sys.argv[1]), {})
writer, number = writer(connection), int(sys.argv[2])
for size in map(int, sys.argv[3:]):
    # If the size is negative, the last message repeats the play before it.
    numbers = list(range(number, number + abs(size)))
    plays = numbers[:-1] + [numbers[-1] - (size < 0)]
    writer.write(batch(message(n, event(p)) for n, p in zip(numbers, plays)))
    number += abs(size)
os._exit(9)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([FULL, 10, -FULL, FULL], [5, FULL]),
        ([10, FULL], [30]),
    ],
)
def test_whole_row_groups_and_loose_rows_survive_crashes(
    before: list[int], after: list[int], tmp_path: Path
) -> None:
    warehouse, first, expected = tmp_path / "playback.duckdb", 1, []
    for sizes in (before, after, [1]):
        arguments = [str(warehouse), str(first), *map(str, sizes)]
        died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, *arguments], check=False)
        assert died.returncode == 9
        for size in sizes:
            expected += range(first, first + abs(size) - (size < 0))
            first += abs(size)
    with closing(connect(warehouse, {})) as connection:
        assert sequences(connection) == expected


def play_of(number: int) -> dict[str, object]:
    return event(number, source="tautulli-import", summary="x" * 7 * 2**20)


def test_loose_rows_with_huge_texts_do_not_exhaust_memory(tmp_path: Path) -> None:
    """Ten transactions of 28 MB each; DuckDB keeps loose rows until a checkpoint."""
    with closing(connect(tmp_path / "playback.duckdb", {})) as connection:
        loose = writer(connection)
        for first in range(1, 41, 4):
            loose.write(batch(message(n, play_of(n)) for n in range(first, first + 4)))
        assert sequences(connection) == [*range(1, 41)]
