"""Memory tuning, tested in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TUNED = """
import json, os, sys
from tautulli_pipeline.memory import release_memory, keep_memory_bounded, freeze_gc
keep_memory_bounded()
release_memory()
freeze_gc()
import gc
names = ("DUCKDB_JE_MALLOC_CONF", "GOMEMLIMIT")
print(json.dumps([[os.environ[n] for n in names], gc.get_threshold()[0], gc.get_freeze_count()]))
"""
WITHOUT_PANDAS = """
import importlib.util, sys
from tautulli_pipeline.memory import block_pandas
block_pandas()
import pyarrow as pa
table = pa.table({"a": pa.array([1, None]), "b": pa.array(["x", "y"])})
assert table.to_pylist() == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]
assert pa.array([2, 3]).to_numpy().tolist() == [2, 3]
try:
    import pandas
except ModuleNotFoundError as error:
    assert error.name == "pandas"
else:
    raise SystemExit("pandas was loaded")
import json.decoder, email.message  # other modules still import
assert "pandas" not in sys.modules
"""
# Small freed blocks between allocated ones, which glibc keeps unless told to return them.
FREED = """
import os
from tautulli_pipeline.memory import release_memory

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

pieces = [bytes(10_000) for _ in range(10_000)]
last = bytes(10_000)
del pieces
before = resident_bytes()
release_memory()
print(before - resident_bytes())
"""


def output_of(script, **variables):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_is_tuned_but_existing_variables_are_kept():
    (allocator, limit), threshold, frozen = json.loads(output_of(TUNED))
    assert "dirty_decay_ms:30" in allocator
    assert limit == "480MiB"
    assert threshold == 3_000
    assert frozen > 1000
    theirs = {"DUCKDB_JE_MALLOC_CONF": "narenas:1", "GOMEMLIMIT": "1GiB"}
    assert json.loads(output_of(TUNED, **theirs))[0] == list(theirs.values())


def test_pyarrow_works_without_pandas():
    output_of(WITHOUT_PANDAS)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim needs glibc")
def test_fragmented_memory_is_returned():
    assert int(output_of(FREED)) > 20_000_000
