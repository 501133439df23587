"""Every exit code of the contract at a glance, for people and for programs."""

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
    """What is typed, what is in the way, and what comes of it."""

    exit_code: int
    arguments: str
    said: str
    hint: str = ""
    variables: dict[str, str] = {}  # noqa: RUF012 - never changed
    given: Callable[[Path], AbstractContextManager[IO[str] | None]] = lambda _folder: nullcontext()


@contextmanager
def no_room_for_output(_folder: Path) -> Iterator[IO[str]]:
    with Path("/dev/full").open("w") as full:
        yield full


@contextmanager
def another_import(folder: Path) -> Iterator[None]:
    (folder / "data").mkdir()
    with ImportLog(folder / "data").exclusive(folder / "tautulli.db"):
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


DONE = "\u2014"
CASES = {
    "help": Case(0, "--help", DONE),
    "nothing to show": Case(0, "status", DONE),
    "nothing to stop": Case(0, "stop", DONE),
    "nothing to reset": Case(0, "reset", DONE),
    "validated": Case(0, "validate {db}", DONE),
    "imported": Case(0, "import {db}", DONE),
    "dry run": Case(0, "import {db} --dry-run", DONE),
    "made and imported": Case(0, "demo --rows 5", DONE),
    "output full": Case(1, "status", "unexpected OSError", "--debug", given=no_room_for_output),
    "no command": Case(2, "import", "no database given", "IMPORT_DB_PATH"),
    "unknown command": Case(2, "bring {db}", "No such command 'bring'", "--help"),
    "unknown option": Case(2, "status --loud", "No such option '--loud'", "--help"),
    "option out of range": Case(
        2, "import {db} --batch-size 100001", "100001 is not in the range 1<=x<=100000", "--help"
    ),
    "variable out of range": Case(
        2,
        "import {db}",
        "DEDUP_MAX_ENTRIES='-1' is not usable: it must be a whole number from 0 to 10000000",
        "unset it for its default",
        {"DEDUP_MAX_ENTRIES": "-1"},
    ),
    "data directory in the way": Case(
        2,
        "import {db}",
        "PIPELINE_DATA_DIR='{folder}/data' is not usable: File exists",
        "a directory that you may write",
        given=file_as_data_directory,
    ),
    "data directory nowhere": Case(
        2,
        "demo --rows 5",
        "PIPELINE_DATA_DIR='/proc/nowhere/data' is not usable: No such file or directory",
        "a directory that you may write",
        {"PIPELINE_DATA_DIR": "/proc/nowhere/data"},
    ),
    "warehouse nowhere": Case(
        2,
        "import {db}",
        "DUCKDB_PATH='/mnt/not-mounted/w.duckdb' is not usable: there is no folder",
        "mount",
        {"DUCKDB_PATH": "/mnt/not-mounted/w.duckdb"},
    ),
    "damaged record": Case(
        2, "status", "cannot read the saved progress", "reset", given=damaged_record
    ),
    "no source": Case(3, "import {db}.old", "cannot read '{db}.old': it does not exist", "path"),
    "no source to validate": Case(3, "validate {folder}", "it is a folder", "file itself"),
    "running already": Case(
        4, "import {db}", "is already running", "tautulli-pipeline stop", given=another_import
    ),
    "demo while running": Case(
        4, "demo --rows 5", "is already running", "status", given=another_import
    ),
    "reset while running": Case(4, "reset", "is already running", "status", given=another_import),
    "no stream": Case(
        5,
        "import {db}",
        "cannot reach the stream server at nats://127.0.0.1:1",
        "NATS_URL",
        {"NATS_URL": "nats://127.0.0.1:1"},
    ),
    "warehouse in use": Case(
        6, "import {db} --wait 0", ") has it open", "close", given=warehouse_in_use
    ),
    "warehouse a folder": Case(
        6,
        "import {db}",
        "cannot open the warehouse {folder}/taken",
        "DUCKDB_PATH",
        {"DUCKDB_PATH": "taken"},
        given=folder_as_warehouse,
    ),
}
SLOW = {"imported", "made and imported", "no stream", "warehouse in use", "warehouse a folder"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_database(tmp_path / "tautulli.db", plays=[play(1), play(2)])
    return tmp_path


def typed(case: Case, folder: Path, *options: str) -> Outcome:
    """Run the console script as a person's shell does."""
    names = {"folder": folder, "db": folder / "tautulli.db"}
    script = Path(sys.executable).with_name("tautulli-pipeline")
    variables = environment(folder / "data", **case.variables)
    with case.given(folder) as output:
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
    return case.said.format(**names), case.hint


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_for_people_it_is_one_line_and_what_to_do(name: str, folder: Path) -> None:
    case = CASES[name]
    outcome = typed(case, folder)
    assert outcome.exit_code == case.exit_code, outcome.stderr
    if case.said is DONE:
        assert outcome.stderr == ""
        assert outcome.stdout
        return
    said, hint = expected(case, folder)
    first, *more = outcome.stderr.splitlines()
    assert first.startswith("tautulli-pipeline: ")
    assert said in first
    assert len(more) == 1
    assert hint in more[0]
    assert outcome.stdout == ""


@pytest.mark.parametrize("name", [name for name in CASES if name not in {"help", "output full"}])
def test_for_programs_it_is_one_json_object(name: str, folder: Path) -> None:
    case = CASES[name]
    outcome = typed(case, folder, "--json")
    assert outcome.exit_code == case.exit_code, outcome.stderr
    facts: dict[str, Any] = outcome.json
    assert "Traceback" not in outcome.stderr
    if case.said is DONE:
        assert "error" not in facts
        return
    said, hint = expected(case, folder)
    assert said in facts["error"]
    assert hint in facts["hint"]
    assert facts.keys() - {"progress"} == {"error", "hint"}
    assert ("progress" in facts) == (case.exit_code == 4)
    assert len(outcome.stderr.splitlines()) == 2


def test_stopped_is_130_for_both(folder: Path) -> None:
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


def test_every_exit_code_of_the_contract_is_shown() -> None:
    assert {case.exit_code for case in CASES.values()} | {130} == {0, 1, 2, 3, 4, 5, 6, 130}
