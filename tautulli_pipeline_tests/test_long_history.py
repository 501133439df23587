"""Memory use for a long history, measured in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import mean

import pytest

from tautulli_pipeline.demo.database import make_demo_database

pytestmark = pytest.mark.slow

MIB = 2**20
MEASURING = """
import json, sys
from tautulli_pipeline.memory import release_memory, keep_memory_bounded
keep_memory_bounded()
from pathlib import Path
import psutil

def resident_bytes():
    release_memory()
    return psutil.Process().memory_info().rss
"""
# Reading the same 4,000 plays repeatedly simulates a longer history.
MAPPING = """
from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.source.schema import read_schema

path, times = Path(sys.argv[1]), int(sys.argv[2])
schema = read_schema(path, named=path)
mapper = Mapper(schema.history_columns, "default")
rows, measured = 0, []
with open_reader(path, schema, named=path) as reader:
    ranges = (IdRange(1, 10**6) for _ in range(times))
    for mapped in mapper.map(reader.columns, reader.stream(ranges)):
        rows += mapped.num_rows
        if rows // 4000 > len(measured):
            measured.append(resident_bytes())
print()
print(json.dumps(measured))
"""
WRITING = """
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, writer

path, batches, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
text = {"source": "tautulli-import", "summary": "x" * 2000}
measured = []
connection = connect(path, {})
writes = writer(connection)
for number in range(batches):
    first = number * size
    start = f"20{10 + number:02d}-05-01T00:00:00Z"
    plays = (event(n, started_at=start, **text) for n in range(first, first + size))
    messages = batch([message(n, play) for n, play in enumerate(plays, first + 1)])
    writes.write(messages)
    measured.append(resident_bytes())
assert connection.execute("SELECT count(*) FROM playback_events").fetchall() == [(batches * size,)]
print()
print(json.dumps(measured))
"""


def measured(script, *arguments):
    """Return the resident bytes after each portion of the work."""
    command = [sys.executable, "-c", MEASURING + script, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # On a slow machine, DuckDB prints a progress bar before the result.
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_of_mapping_does_not_grow_with_the_history(tmp_path):
    make_demo_database(tmp_path / "tautulli.db", 4000)
    used = measured(MAPPING, tmp_path / "tautulli.db", 12)
    assert len(used) == 12
    # If events were kept, each pass would add 18 MiB, and the second half would need 108 more.
    assert mean(used[6:]) - mean(used[:6]) < 54 * MIB


def test_memory_of_writing_grows_by_less_than_a_kilobyte_per_play(tmp_path):
    used = measured(WRITING, tmp_path / "playback.duckdb", 20, 4096)
    plays_between = 4096 * 12
    # About 200 bytes per play are expected, mostly in the indexes; a kept event takes 2,200.
    assert mean(used[16:]) - mean(used[4:8]) < 1000 * plays_between
