"""SIGKILL of one or two processes at random moments of an import, compared with an undisturbed one.

`KILL_POINTS=100 pytest ...` tries a hundred moments instead of a few. The moments derive from
`KILLS_SEED`, so that a failed one can be repeated.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import duckdb
import psutil
import pytest

from tautulli_pipeline_tests.command import (
    ended,
    imported,
    nothing_runs,
    outcomes,
    processes_of,
    query,
    run,
    run_process,
    start,
)
from tautulli_pipeline_tests.recovery.conftest import published

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.slow

ROWS = 12_000
OPTIONS = ("--json", "--batch-size", 300)
SEED = int(os.environ.get("KILLS_SEED", "15"))
POINTS = int(os.environ.get("KILL_POINTS", "6"))
STANDSTILL_SECONDS = 15

COMMAND, CONSUMER = "tautulli_pipeline import", "consumer_main"
GUARDIAN, SERVER = "stream.guardian", "nats-server -c"
PROCESSES = (COMMAND, CONSUMER, GUARDIAN, SERVER)
VICTIMS = [*((name,) for name in PROCESSES), *combinations(PROCESSES, 2)]

# What differs between two imports of the same plays.
OWN = "created_at, import_id, stream_id, stream_sequence"


@dataclass(frozen=True)
class Undisturbed:
    """An import that nothing disturbed."""

    data_dir: Path
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    data_dir = tmp_path_factory.mktemp("undisturbed") / "data"
    began_at = time.monotonic()
    outcome = run_process("import", database, *OPTIONS, data_dir=data_dir)
    seconds = time.monotonic() - began_at
    assert outcome.exit_code == 0, outcome.stderr
    assert nothing_runs(data_dir)
    return Undisturbed(data_dir, seconds)


def kill(names: tuple[str, ...], data_dir: Path) -> None:
    """Kill those of the processes that exist, one right after the other."""
    running = [(process, " ".join(process.cmdline())) for process in processes_of(data_dir)]
    for name in names:
        for process, words in running:
            if name in words:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def longest_standstill(process: subprocess.Popen[str], data_dir: Path) -> float:
    """Return for how many seconds at most nothing changed until the command ended."""

    def progress() -> object:
        warehouse = [path.stat().st_size for path in data_dir.glob("playback.duckdb*")]
        record = data_dir / "import.json"
        return published(data_dir), record.exists() and record.stat().st_mtime_ns, warehouse

    last, changed_at, longest = None, time.monotonic(), 0.0
    while process.poll() is None:
        with suppress(FileNotFoundError):
            if (seen := progress()) != last:
                last, changed_at = seen, time.monotonic()
        longest = max(longest, time.monotonic() - changed_at)
        time.sleep(0.05)
    return longest


def different_rows(first: Path, second: Path) -> int:
    """Return how many rows of the tables of two data directories differ."""
    with duckdb.connect() as connection:
        for name, data_dir in (("a", first), ("b", second)):
            path = str(data_dir / "playback.duckdb").replace("'", "''")
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        a, b = (f"SELECT * EXCLUDE ({OWN}) FROM {name}.playback_events" for name in "ab")
        union = f"({a} EXCEPT ALL {b}) UNION ALL ({b} EXCEPT ALL {a})"
        (row,) = connection.execute(f"SELECT count(*) FROM ({union})").fetchall()
    return int(row[0])


@pytest.mark.parametrize("point", range(POINTS))
def test_an_import_with_killed_processes_stores_every_row_once(
    point: int, database: Path, data_dir: Path, undisturbed: Undisturbed
) -> None:
    chance = random.Random(f"{SEED}:{point}")
    names = VICTIMS[point % len(VICTIMS)]
    pause = chance.uniform(0.5, undisturbed.seconds)

    process = start("import", database, *OPTIONS, data_dir=data_dir)
    time.sleep(pause)
    kill(names, data_dir)
    standstill = longest_standstill(process, data_dir)
    outcome = ended(process)
    print(f"seed {SEED}, {names} after {pause:.2f} s: exit {outcome.exit_code}, {standstill:.1f} s")  # noqa: T201 - pytest shows it with a failure
    assert standstill < STANDSTILL_SECONDS
    assert "Traceback" not in outcome.stderr
    assert "NATS_URL" not in outcome.stderr
    assert nothing_runs(data_dir)

    run("status", "--json", data_dir=data_dir)
    assert not list(data_dir.glob("snapshots/*"))
    summary = imported(database, *OPTIONS[1:], data_dir=data_dir)
    counts = outcomes(summary)
    done = counts.get("total_records", 0)
    assert (done + counts.get("unchanged", 0), counts.get("imported", 0)) == (ROWS, done)
    assert different_rows(data_dir, undisturbed.data_dir) == 0
    assert query(data_dir, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert not list(data_dir.glob("receipts/*"))
    assert not list(data_dir.glob("snapshots/*"))
