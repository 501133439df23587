"""Who has the warehouse open, in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tautulli_pipeline.errors import WarehouseHeldError
from tautulli_pipeline.warehouse.holders import doing_of, held_by
from tautulli_pipeline.warehouse.reading import open_to_read
from tautulli_pipeline.warehouse.schema import open_warehouse
from tautulli_pipeline_tests.holding import held_by_another_process

WAREHOUSE = Path("/media/playback.duckdb")
LOCKED = f'IO Error: Could not set lock on file "{WAREHOUSE}": '
# As a consumer process of an import holds it.
CONSUMER = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("command", "doing"),
    [
        ("python -m tautulli_pipeline.imports.consumer_main --debug", "an import is running"),
        ("/v/bin/python /v/bin/tautulli-pipeline duplicates list", "another command of this"),
        ("/v/bin/python -m tautulli_pipeline demo", "another command of this pipeline"),
        ("python /home/me/tautulli_pipeline/notebook.py", ""),
        ("duckdb /home/me/tautulli_pipeline/data/playback.duckdb", ""),
        ("less tautulli_pipeline.imports.consumer_main", ""),
        ("", ""),
    ],
)
def test_processes_of_the_pipeline_are_known_by_their_command_line(command, doing):
    found = doing_of(command.split())
    assert found.startswith(doing)
    assert bool(found) == bool(doing)


def test_a_run_of_dagster_is_known_by_its_parent():
    worker = [
        "python",
        "-c",
        "from multiprocessing.spawn import spawn_main",
        "--multiprocessing-fork",
    ]
    server = ["python", "-m", "dagster", "api", "grpc", "-m", "tautulli_pipeline.definitions"]
    assert doing_of(worker, server) == "a run of Dagster is storing events"
    assert doing_of(worker, [*server[:-1], "other.definitions"]) == doing_of(worker) == ""


@pytest.mark.parametrize(
    "cause",
    [
        "Conflicting lock is held in PID 0. See also https://duckdb.org",
        "Resource temporarily unavailable",
    ],
)
def test_a_holder_without_a_name_is_another_program(cause):
    held = held_by(WAREHOUSE, "open", LOCKED + cause)
    assert held.message == f"cannot open the warehouse {WAREHOUSE}: another program has it open"
    assert held.hint.startswith("close that program")


def test_a_holder_that_has_ended_is_named_as_duckdb_names_it():
    cause = "Conflicting lock is held in /usr/bin/duckdb (PID 999999999)."
    held = held_by(WAREHOUSE, "open", LOCKED + cause)
    assert held.message.endswith(": process 999999999 (/usr/bin/duckdb) has it open")


def test_another_error_is_not_a_holder():
    assert held_by(WAREHOUSE, "open", "IO Error: No space left on device") is None


def test_our_own_consumer_is_never_described_as_a_stranger(tmp_path):
    path = tmp_path / "playback.duckdb"
    duckdb.connect(path).close()
    # A process with the command line of a consumer.
    module = tmp_path / "tautulli_pipeline" / "imports" / "consumer_main.py"
    module.parent.mkdir(parents=True)
    for folder in (module.parent, module.parent.parent):
        (folder / "__init__.py").touch()
    module.write_text(CONSUMER)
    command = [sys.executable, "-m", "tautulli_pipeline.imports.consumer_main", str(path)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        for opened in (open_to_read, open_warehouse):
            with pytest.raises(WarehouseHeldError) as caught, opened(path):
                pass
            assert caught.value.message.endswith(f": an import is running (process {process.pid})")
            assert caught.value.hint.startswith("wait until it is done")
        process.kill()


def test_a_stranger_is_named(tmp_path):
    path = tmp_path / "playback.duckdb"
    with (
        held_by_another_process(path) as process_id,
        pytest.raises(WarehouseHeldError, match=f"process {process_id} ") as caught,
        open_to_read(path),
    ):
        pass
    assert caught.value.hint.startswith("close that program")
