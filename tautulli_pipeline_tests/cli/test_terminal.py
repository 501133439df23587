"""What people see: help, progress and summaries, in a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.command import environment, query, run

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("", "import", "validate", "status", "demo", "duplicates list", "dead-letters replay")
HEAVY = ("dagster", "duckdb", "nats", "pyarrow")
PROGRESS = re.compile(
    r" *(\d+)% .*[\d,]+ rows/s  ETA [-\d]+:[-\d]{2}  [\d,]+ duplicates  [\d,]+ rejected"
)


def in_a_terminal(*arguments: object, data_dir: Path) -> tuple[int, list[str]]:
    """Run in a pseudo terminal; exit code and every line it ever showed."""
    command = [sys.executable, "-m", "tautulli_pipeline", *map(str, arguments)]
    variables = environment(data_dir, TERM="xterm", HOME=data_dir.parent)
    variables = {n: v for n, v in variables.items() if n not in {"COLUMNS", "LINES", "NO_COLOR"}}
    own, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    files = [(os.POSIX_SPAWN_DUP2, theirs, number) for number in (0, 1, 2)]
    process_id = os.posix_spawn(command[0], command, variables, file_actions=files)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(own, 65536):
            shown += part
    except OSError:  # Linux: the other end is closed
        pass
    os.close(own)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return exit_code, [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_loads_nothing_heavy(command: str, data_dir: Path) -> None:
    outcome = run(*command.split(), "--help", data_dir=data_dir, PYTHONPROFILEIMPORTTIME=1)
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("Usage: ")
    assert max(map(len, outcome.stdout.splitlines())) <= 80
    loaded = {line.rsplit("|", 1)[-1].strip() for line in outcome.stderr.splitlines()}
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_version_is_told(data_dir: Path) -> None:
    assert run("--version", data_dir=data_dir).stdout.strip().endswith("version 0.1.0")


def test_before_any_import_the_status_is_pending_and_nothing_is_made(data_dir: Path) -> None:
    facts = run("status", "--json", data_dir=data_dir).json
    assert (facts["status"], facts["progress"], facts["total_records"]) == ("pending", 0, 0)
    assert set(facts["duplicates"]) == {"stream", "cache", "database"}
    assert "nothing was imported" in run("status", data_dir=data_dir).stdout
    assert not data_dir.exists()


def test_debug_shows_where_an_error_came_from(data_dir: Path) -> None:
    outcome = run("import", "missing.db", "--debug", data_dir=data_dir)
    assert outcome.exit_code == 3
    assert "Traceback" in outcome.stderr
    assert "SourceError" in outcome.stderr


def test_an_import_shows_its_progress_and_its_ledger(data_dir: Path) -> None:
    database = data_dir.with_name("tautulli.db")
    make_demo_database(database, 9_000, damaged_rows=5)
    exit_code, lines = in_a_terminal("import", database, data_dir=data_dir)
    assert exit_code == 0
    assert max(map(len, lines)) <= max(80, len(str(data_dir / "playback.duckdb")))
    shown = [found for line in lines if (found := PROGRESS.fullmatch(line))]
    percents = [int(found[1]) for found in shown]
    assert percents == sorted(percents)
    assert percents[0] < 50 < percents[-1]
    summary = lines[lines.index(next(line for line in lines if line.startswith("imported"))) :]
    counts = dict(re.split(r"  +", line) for line in summary[:-2])
    assert counts == {
        "imported": "9,001",
        "duplicates, seen by the stream": "0",
        "duplicates, seen by the cache": "0",
        "duplicates, already in the table": "0",
        "rejected (see dead_letters)": "4",
        "unreadable": "0",
        "plays covered": "9,005",
    }
    assert re.fullmatch(r"completed after [\d.]+ s, [\d,]+ rows/s", summary[-2])
    assert summary[-1] == str(data_dir / "playback.duckdb")
    code, status = in_a_terminal("status", data_dir=data_dir)
    assert (code, status) == (0, summary)


def test_the_demo_makes_and_imports_its_database(data_dir: Path) -> None:
    outcome = run("demo", "--rows", 200, data_dir=data_dir)
    assert outcome.exit_code == 0, outcome.stderr
    assert "200" in outcome.stdout
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(200,)]
    assert (data_dir / "demo-200.db").exists()
