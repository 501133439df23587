"""Every exit code, with the text output and the JSON output."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pytest

from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import Outcome, ended, environment, start, wait_until
from tautulli_pipeline_tests.holding import held_by_another_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Case(NamedTuple):
    """A command, the situation in which it runs and its expected result."""

    exit_code: int
    arguments: str
    message: str
    hint: str = ""
    variables: dict[str, str] = {}  # noqa: RUF012 - never changed
    situation: Callable[[Path], AbstractContextManager[IO[str] | None]] = lambda _folder: (
        nullcontext()
    )


@contextmanager
def full_disk(_folder: Path) -> Iterator[IO[str]]:
    with Path("/dev/full").open("w") as full:
        yield full


@contextmanager
def another_import(folder: Path) -> Iterator[None]:
    (folder / "data").mkdir()
    with ImportLog(folder / "data").exclusive(folder / "tautulli.db"):
        yield


@contextmanager
def another_demo(folder: Path) -> Iterator[None]:
    (folder / "data" / "demo-data").mkdir(parents=True)
    with ImportLog(folder / "data" / "demo-data").exclusive(folder / "tautulli.db"):
        yield


@contextmanager
def warehouse_in_use(folder: Path) -> Iterator[None]:
    (folder / "data").mkdir()
    with held_by_another_process(folder / "data" / "playback.duckdb"):
        yield


@contextmanager
def folder_as_warehouse(folder: Path) -> Iterator[None]:
    (folder / "taken").mkdir()
    yield


@contextmanager
def file_as_data_directory(folder: Path) -> Iterator[None]:
    (folder / "data").touch()
    yield


@contextmanager
def damaged_record(folder: Path) -> Iterator[None]:
    (folder / "data").mkdir()
    (folder / "data" / "import.json").write_text("{")
    yield


SUCCESS = "\u2014"
CASES = {
    "help": Case(0, "--help", SUCCESS),
    "no status": Case(0, "status", SUCCESS),
    "nothing to stop": Case(0, "stop", SUCCESS),
    "nothing to reset": Case(0, "reset", SUCCESS),
    "validated": Case(0, "validate {db}", SUCCESS),
    "imported": Case(0, "import {db}", SUCCESS),
    "dry run": Case(0, "import {db} --dry-run", SUCCESS),
    "demo": Case(0, "demo --rows 5", SUCCESS),
    "disk full": Case(1, "status", "unexpected OSError", "--debug", situation=full_disk),
    "no database": Case(2, "import", "no database given", "IMPORT_DB_PATH"),
    "unknown command": Case(2, "bring {db}", "No such command 'bring'", "--help"),
    "unknown option": Case(2, "status --loud", "No such option '--loud'", "--help"),
    "option out of range": Case(
        2, "import {db} --batch-size 100001", "100001 is not in the range 1<=x<=100000", "--help"
    ),
    "variable out of range": Case(
        2,
        "import {db}",
        "DEDUP_MAX_ENTRIES='-1' is not usable: it must be a whole number from 0 to 10000000",
        "unset it to use the default",
        {"DEDUP_MAX_ENTRIES": "-1"},
    ),
    "file instead of data directory": Case(
        2,
        "import {db}",
        "PIPELINE_DATA_DIR='{folder}/data' is not usable: File exists",
        "set PIPELINE_DATA_DIR to a writable directory",
        situation=file_as_data_directory,
    ),
    "data directory cannot be created": Case(
        2,
        "demo --rows 5",
        "PIPELINE_DATA_DIR='/proc/nowhere/data/demo-data' is not usable: No such file or directory",
        "set PIPELINE_DATA_DIR to a writable directory",
        {"PIPELINE_DATA_DIR": "/proc/nowhere/data"},
    ),
    "no folder for the warehouse": Case(
        2,
        "import {db}",
        "DUCKDB_PATH='/mnt/not-mounted/w.duckdb' is not usable: folder /mnt/not-mounted",
        "mount",
        {"DUCKDB_PATH": "/mnt/not-mounted/w.duckdb"},
    ),
    "damaged record": Case(
        2, "status", "cannot read the saved progress", "reset", situation=damaged_record
    ),
    "missing source": Case(
        3, "import {db}.old", "cannot read '{db}.old': it does not exist", "path"
    ),
    "folder as source": Case(3, "validate {folder}", "it is a folder", "file itself"),
    "import already running": Case(
        4, "import {db}", "is already running", "tautulli-pipeline stop", situation=another_import
    ),
    "demo during a demo": Case(
        4, "demo --rows 5", "is already running", "status", situation=another_demo
    ),
    "reset during an import": Case(
        4, "reset", "is already running", "status", situation=another_import
    ),
    "unreachable stream": Case(
        5,
        "import {db}",
        "cannot reach the stream server at nats://127.0.0.1:1",
        "NATS_URL",
        {"NATS_URL": "nats://127.0.0.1:1"},
    ),
    "warehouse in use": Case(
        6, "import {db} --wait 0", ") has it open", "close", situation=warehouse_in_use
    ),
    "folder as warehouse": Case(
        6,
        "import {db}",
        "cannot open the warehouse {folder}/taken",
        "DUCKDB_PATH",
        {"DUCKDB_PATH": "taken"},
        situation=folder_as_warehouse,
    ),
}
SLOW = {"imported", "demo", "unreachable stream", "warehouse in use", "folder as warehouse"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_database(tmp_path / "tautulli.db", plays=[play(1), play(2)])
    return tmp_path


def run_script(case: Case, folder: Path, *options: str) -> Outcome:
    """Run the console script, as a shell does."""
    names = {"folder": folder, "db": folder / "tautulli.db"}
    script = Path(sys.executable).with_name("tautulli-pipeline")
    variables = environment(folder / "data", **case.variables)
    with case.situation(folder) as output:
        done = subprocess.run(
            [script, *case.arguments.format(**names).split(), *options],
            check=False,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    return Outcome(done.returncode, done.stdout or "", done.stderr)


def expected(case: Case, folder: Path) -> tuple[str, str]:
    names = {"folder": folder, "db": folder / "tautulli.db"}
    return case.message.format(**names), case.hint


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_text_output_is_a_message_and_a_hint(name: str, folder: Path) -> None:
    case = CASES[name]
    outcome = run_script(case, folder)
    assert outcome.exit_code == case.exit_code, outcome.stderr
    if case.message is SUCCESS:
        assert outcome.stderr == ""
        assert outcome.stdout
        return
    message, hint = expected(case, folder)
    first, *others = outcome.stderr.splitlines()
    assert first.startswith("tautulli-pipeline: ")
    assert message in first
    assert len(others) == 1
    assert hint in others[0]
    assert outcome.stdout == ""


@pytest.mark.parametrize("name", [name for name in CASES if name not in {"help", "disk full"}])
def test_json_output_is_one_object(name: str, folder: Path) -> None:
    case = CASES[name]
    outcome = run_script(case, folder, "--json")
    assert outcome.exit_code == case.exit_code, outcome.stderr
    facts: dict[str, Any] = outcome.json
    assert "Traceback" not in outcome.stderr
    if case.message is SUCCESS:
        assert "error" not in facts
        return
    message, hint = expected(case, folder)
    assert message in facts["error"]
    assert hint in facts["hint"]
    assert facts.keys() - {"progress"} == {"error", "hint"}
    assert ("progress" in facts) == (case.exit_code == 4)
    assert len(outcome.stderr.splitlines()) == 2


def test_an_interrupt_exits_with_130_in_both_formats(folder: Path) -> None:
    for options in ([], ["--json"]):
        process = start("import", folder / "tautulli.db", *options, data_dir=folder / "data")
        wait_until((folder / "data" / "import.claim").exists, pause_seconds=0.001)
        process.send_signal(signal.SIGINT)
        outcome = ended(process)
        assert outcome.exit_code == 130
        assert outcome.stderr.splitlines() == [
            "tautulli-pipeline: the import was stopped",
            "  import again to resume it",
        ]
    assert json.loads(outcome.stdout) == {
        "error": "the import was stopped",
        "hint": "import again to resume it",
    }


def test_the_cases_cover_every_exit_code() -> None:
    assert {case.exit_code for case in CASES.values()} | {130} == {0, 1, 2, 3, 4, 5, 6, 130}
