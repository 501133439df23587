"""Restarting, finding and ending the children of `up`, with small real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import dagster as dg
import pytest

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.serving import up as serving
from tautulli_pipeline.serving.up import Serving, _Service
from tautulli_pipeline.serving.webserver import Webserver
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.served import free_port
from tautulli_pipeline_tests.serving.answering import started, webserver


@pytest.fixture(autouse=True)
def _short_times(monkeypatch):
    monkeypatch.setattr(serving, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(serving, "_START_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(serving, "_RESTART_PAUSE_SECONDS", 0.0)


@pytest.fixture
def service(tmp_path):
    """Create services from shell commands; their processes are killed after the test."""
    made = []

    def service(script):
        log = tmp_path / "daemon.log"
        command = ("sh", "-c", script)
        made.append(_Service("the daemon", command, log, dict(os.environ)))
        return made[-1]

    yield service
    for one in made:
        if one.process is not None:
            one.process.kill()
            one.process.wait()


def serving_of(data_dir, port=None, **settings):
    messages = []
    given = Settings(pipeline_data_dir=data_dir, **settings)
    return Serving(given, port or free_port(), Stop("stopped"), messages.append), messages


def ended(service):
    service.process.wait(10)


def test_a_running_child_is_not_restarted(service):
    child, messages = service("exec sleep 600"), []
    child.start()
    before = child.process
    child.keep_running(messages.append)
    assert child.process is before
    assert messages == []


def test_an_exited_child_is_restarted_and_appends_to_its_log(service):
    child, messages = service("echo out; echo err >&2; exit 3"), []
    child.start()
    ended(child)
    child.keep_running(messages.append)
    ended(child)
    assert messages == ["the daemon exited with code 3; restarting it"]
    assert child.log.read_text() == "out\nerr\n" * 2


def test_a_child_that_keeps_exiting_is_an_error_that_names_its_log(service):
    child, messages = service("exit 3"), []
    child.start()
    for _ in range(5):
        ended(child)
        child.keep_running(messages.append)
    ended(child)
    with pytest.raises(PipelineError) as caught:
        child.keep_running(messages.append)
    assert caught.value.message == "the daemon keeps exiting with code 3"
    assert str(child.log) in caught.value.hint
    assert len(messages) == 5


def test_a_steady_run_resets_the_restart_count(service):
    child = service("exit 3")
    child.start()
    for _ in range(4):
        ended(child)
        child.keep_running(lambda _: None)
    ended(child)
    child.restarts.started_at -= 61
    child.keep_running(lambda _: None)
    assert child.restarts.in_a_row == 0


def test_a_large_log_is_rotated_at_the_next_start(service, monkeypatch):
    monkeypatch.setattr(serving, "_MAX_LOG_BYTES", 10)
    child = service("echo twelve bytes")
    for _ in range(2):
        child.start()
        ended(child)
    assert child.log.read_text() == "twelve bytes\n"
    assert child.log.with_name("daemon.log.1").read_text() == "twelve bytes\n"


def test_a_child_runs_in_its_own_session(service):
    child = service("exec sleep 600")
    child.start()
    assert os.getsid(child.process.pid) == child.process.pid


DAGSTER = ("-m", "dagster._daemon", "run")
GUARDIAN = ("-m", "tautulli_pipeline.stream.guardian", "/srv/dagster/nats")


@pytest.fixture
def marked():
    """Start processes with the mark of an `up`; they are killed after the test."""
    started = []

    def marked(arguments, mark):
        command = [sys.executable, "-c", "input()", *arguments]
        environment = {**os.environ, "TAUTULLI_PIPELINE_UP": mark}
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        return started[-1]

    yield marked
    for process in started:
        process.kill()
        process.communicate()


def test_the_dagster_processes_of_an_up_are_ended_by_its_mark(marked):
    child = marked(DAGSTER, "one")
    others = marked(DAGSTER, "another"), marked(GUARDIAN, "one")  # a run has started the guardian
    serving._end_children("one")
    assert child.wait(5) in {0, -15}
    assert [other.poll() for other in others] == [None, None]


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_a_missing_or_damaged_state_file_has_no_leftover_children(tmp_path, marked, content):
    child = marked(DAGSTER, "one")
    if content is not None:
        (tmp_path / "up.json").write_text(content)
    up, _ = serving_of(tmp_path)
    with up._exclusive():
        assert child.poll() is None


def test_up_ends_the_leftover_children_of_the_previous_one(tmp_path, marked):
    first, _ = serving_of(tmp_path)
    first._save_state()
    child = marked(DAGSTER, first.mark)
    second, _ = serving_of(tmp_path)
    assert second.mark != first.mark
    with second._exclusive():
        assert child.wait(5) in {0, -15}
    assert not (tmp_path / "up.json").exists()


def test_a_second_up_is_refused_with_the_address_of_the_first(tmp_path):
    first, _ = serving_of(tmp_path)
    second, _ = serving_of(tmp_path)
    with first._exclusive():
        for where in ("", f" at {first.url}"):
            with pytest.raises(ConfigurationError) as caught, second._exclusive():
                pass
            assert caught.value.message == f"another `up` is already serving {tmp_path}{where}"
            first._save_state()
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_reported():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            serving._require_free("127.0.0.1", port)
    assert caught.value.message == f"cannot listen on 127.0.0.1:{port}: address already in use"
    serving._require_free("127.0.0.1", port)


def test_a_webserver_that_never_answers_is_an_error_that_names_its_log(tmp_path, service):
    up, _ = serving_of(tmp_path)
    child = service("exec sleep 600")
    child.start()
    with pytest.raises(PipelineError) as caught:
        up._await_answer(Webserver(up.url), [child])
    assert caught.value.message == f"the webserver does not answer at {up.url}"
    assert str(child.log) in caught.value.hint
    up.stop.request()
    up._await_answer(Webserver(up.url), [child])  # returns at once after a stop request


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        (
            {"import_auto_start": True},
            ["IMPORT_AUTO_START is ignored because IMPORT_ENABLED is not true"],
        ),
        (
            {"import_auto_start": True, "import_enabled": True},
            ["IMPORT_AUTO_START is ignored because IMPORT_DB_PATH is not set"],
        ),
    ],
)
def test_auto_start_needs_import_enabled_and_a_database(tmp_path, settings, expected):
    up, messages = serving_of(tmp_path, **settings)
    up._start_import(None, None)  # neither is used
    assert messages == expected


def auto_starting(tmp_path, port=None):
    database = tmp_path / "tautulli.db"
    return serving_of(
        tmp_path, port, import_auto_start=True, import_enabled=True, import_db_path=database
    )


def test_auto_start_skips_a_running_import(tmp_path):
    up, messages = auto_starting(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        with ImportLog(tmp_path).exclusive(tmp_path / "tautulli.db"):
            up._start_import(Webserver(up.url), instance)
        instance.add_run(dg.DagsterRun("import_job", status=dg.DagsterRunStatus.STARTED))
        up._start_import(Webserver(up.url), instance)
    assert messages == ["an import is already running"] * 2


def test_auto_start_launches_one_import_and_prints_its_run(tmp_path):
    with webserver(200, started("run-1")) as (url, asked), dg.DagsterInstance.ephemeral() as empty:
        up, messages = auto_starting(tmp_path, urlsplit(url).port)
        up._start_import(Webserver(url), empty)
    assert messages == [f"import started: {url}/runs/run-1"]
    assert len(asked) == 1
