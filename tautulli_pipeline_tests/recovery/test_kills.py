"""Imports that are killed or stopped at any moment, and resumed by the next one."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline_tests.command import (
    ended,
    imported,
    nothing_runs,
    outcomes,
    processes_of,
    query,
    run,
    start,
    wait_until,
)
from tautulli_pipeline_tests.recovery.conftest import publications, published

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    import psutil

    Import = subprocess.Popen[str]

ROWS = 30_000
LOGS = ("import", "consumer", "stream-server")
OPTIONS = ("--json", "--batch-size", 500)
ALL_IMPORTED = {"total_records": ROWS, "processed": ROWS, "imported": ROWS}


def has_begun(data_dir: Path) -> bool:
    return published(data_dir) > 0


def is_a_third_done(data_dir: Path) -> bool:
    return published(data_dir) >= 20


def is_two_thirds_done(data_dir: Path) -> bool:
    return published(data_dir) >= 40


def is_partly_settled(data_dir: Path) -> bool:
    record = json.loads((data_dir / "import.json").read_bytes())
    return is_two_thirds_done(data_dir) and record["outcomes"]["imported"] > 0


def importer(process: Import, data_dir: Path) -> list[psutil.Process]:
    return [p for p in processes_of(data_dir) if p.pid == process.pid]


def importer_and_consumer(process: Import, data_dir: Path) -> list[psutil.Process]:
    return [p for p in processes_of(data_dir) if os.getpgid(p.pid) == process.pid]


def everything(_process: Import, data_dir: Path) -> list[psutil.Process]:
    return list(processes_of(data_dir))


def kill(
    victims: Callable[[Import, Path], list[psutil.Process]],
    when: Callable[[Path], bool],
    database: Path,
    data_dir: Path,
) -> None:
    """Start or resume the import, and kill some of its processes when `when` becomes true."""
    process = start("import", database, *OPTIONS, data_dir=data_dir)
    wait_until(lambda: when(data_dir))
    for victim in victims(process, data_dir):
        victim.kill()
    assert process.wait(60) == -signal.SIGKILL
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def runs(data_dir: Path) -> Counter[tuple[str, str]]:
    """Return the number of Dagster runs by job and status."""
    with open_instance(data_dir) as instance:
        return Counter((run.job_name, run.status.value) for run in instance.get_runs())


def assert_complete(summary: dict[str, Any], data_dir: Path) -> None:
    assert outcomes(summary) == ALL_IMPORTED
    assert (summary["published"], summary["status"]) == (ROWS, "completed")
    counts = "SELECT count(*), count(DISTINCT id), count(DISTINCT source_row_id)"
    assert query(data_dir, f"{counts} FROM playback_events") == [(ROWS, ROWS, ROWS)]
    assert query(data_dir, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert not list(data_dir.glob("receipts/*"))
    assert not list(data_dir.glob("snapshots/*"))


@pytest.fixture(autouse=True)
def _environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATA_DIR", "overwritten by `open_instance`")


@pytest.mark.slow
def test_an_import_killed_three_times_stores_every_row_exactly_once(
    database: Path, data_dir: Path
) -> None:
    kill(importer, has_begun, database, data_dir)
    began = json.loads((data_dir / "import.json").read_bytes())["import_id"]
    kill(importer_and_consumer, is_a_third_done, database, data_dir)
    assert nothing_runs(data_dir)
    before = publications(data_dir)
    kill(everything, is_partly_settled, database, data_dir)

    status = run("status", "--json", data_dir=data_dir).json
    assert (status["status"], status["import_id"]) == ("failed", began)
    (in_the_table,) = query(data_dir, "SELECT count(*) FROM playback_events")[0]
    assert 0 < status["processed"] <= in_the_table < ROWS
    assert sum(outcomes(status).values()) == 2 * status["processed"] + ROWS

    summary = imported(database, data_dir=data_dir)
    assert_complete(summary, data_dir)
    assert summary["import_id"] == began
    after = publications(data_dir)
    assert len(after) > len(before)
    assert runs(data_dir)["import_job", "FAILURE"] == 3
    assert runs(data_dir)["import_job", "SUCCESS"] == 1
    assert {status for _, status in runs(data_dir)} == {"FAILURE", "SUCCESS"}
    # A partition is recorded as soon as it is finished, so none was published twice.
    assert set(after.values()) == {1}


@pytest.mark.slow
def test_an_import_survives_kills_of_its_stream_server(database: Path, data_dir: Path) -> None:
    process = start("import", database, *OPTIONS, data_dir=data_dir)
    for moment in (has_begun, is_a_third_done, is_two_thirds_done):
        wait_until(lambda moment=moment: moment(data_dir))
        server = wait_until(
            lambda: [p for p in processes_of(data_dir) if p.name() == "nats-server"]
        )
        server[0].kill()
    outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert_complete(outcome.json, data_dir)
    log = {name: (data_dir / "log" / f"{name}.log").read_text() for name in LOGS}
    assert log["stream-server"].count("nats-server exited with code -9; restarting it") == 3
    for name in ("import", "consumer"):
        assert log[name].count("lost the connection to nats://127.0.0.1:") == 3
        assert log[name].count("connected to nats://127.0.0.1:") == 3
    secret = "password"
    settings = (data_dir / "nats" / "nats-server.conf").read_text()
    (password,) = re.findall(rf'{secret}: "(\w+)"', settings)
    assert password not in "".join(log.values())


def named(name: str, data_dir: Path) -> psutil.Process:
    """Wait for the process with this word in its command line, and return it."""

    def found() -> list[psutil.Process]:
        return [p for p in processes_of(data_dir) if any(name in word for word in p.cmdline())]

    process: psutil.Process = wait_until(found)[0]
    return process


GUARDIAN, SERVER, CONSUMER = "stream.guardian", "nats-server", "consumer_main"


@pytest.mark.parametrize(
    "victims",
    [
        (GUARDIAN,),
        pytest.param((GUARDIAN, SERVER), marks=pytest.mark.slow),
        pytest.param((SERVER, GUARDIAN), marks=pytest.mark.slow),
    ],
)
def test_an_import_survives_kills_of_the_guardian_and_goes_on_within_seconds(
    database: Path, data_dir: Path, victims: tuple[str, ...]
) -> None:
    process = start("import", database, *OPTIONS, data_dir=data_dir)
    for moment in (has_begun, is_two_thirds_done):
        wait_until(lambda moment=moment: moment(data_dir))
        for victim in [named(victim, data_dir) for victim in victims]:
            victim.kill()
        before = published(data_dir)
        wait_until(lambda before=before: published(data_dir) > before, 15)
    outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert_complete(outcome.json, data_dir)
    assert nothing_runs(data_dir)


@pytest.mark.slow
def test_an_import_that_lost_guardian_and_consumer_is_resumed(
    database: Path, data_dir: Path
) -> None:
    process = start("import", database, *OPTIONS, data_dir=data_dir)
    wait_until(lambda: is_a_third_done(data_dir))
    for victim in [named(GUARDIAN, data_dir), named(CONSUMER, data_dir)]:
        victim.kill()
    outcome = ended(process)
    assert outcome.exit_code == 1
    assert "NATS_URL" not in outcome.stdout + outcome.stderr
    assert nothing_runs(data_dir)
    assert_complete(imported(database, data_dir=data_dir), data_dir)


@pytest.mark.slow
def test_a_stopped_import_reports_it_and_resumes(database: Path, data_dir: Path) -> None:
    for number, moment in ((signal.SIGINT, has_begun), (signal.SIGTERM, is_two_thirds_done)):
        process = start("import", database, *OPTIONS, data_dir=data_dir)
        wait_until(lambda moment=moment: moment(data_dir))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        outcome = ended(process)
        assert outcome.exit_code == 130
        assert outcome.json["hint"] == "import again to resume it"
        status = run("status", "--json", data_dir=data_dir).json
        assert status["status"] == "stopped"
        (in_the_table,) = query(data_dir, "SELECT count(*) FROM playback_events")[0]
        assert status["processed"] <= in_the_table < ROWS
    assert_complete(imported(database, data_dir=data_dir), data_dir)
