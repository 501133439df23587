"""The children of `up`: started again, found again and ended, with small real processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from urllib.parse import urlsplit

import dagster as dg
import psutil
import pytest

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.serving import up as serving
from tautulli_pipeline.serving.up import Serving, Timings, _Service
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.command import wait_until
from tautulli_pipeline_tests.served import free_port
from tautulli_pipeline_tests.serving.answering import launched, webserver

QUICK = Timings(
    poll_seconds=0.01,
    starts_within_seconds=0.1,
    ends_within_seconds=5.0,
    restart_pause_seconds=0.0,
    steady_seconds=60.0,
)


@pytest.fixture
def service(tmp_path):
    """Makes services of shell commands; what they started is ended."""
    made = []

    def service(script, **limits):
        log = tmp_path / "daemon.log"
        command = ("sh", "-c", script)
        made.append(_Service("the daemon", command, log, dict(os.environ), QUICK, **limits))
        return made[-1]

    yield service
    for one in made:
        if one.process is not None:
            one.process.kill()
            one.process.wait()


def serving_of(data_dir, port=None, **settings):
    said = []
    given = Settings(pipeline_data_dir=data_dir, **settings)
    return Serving(given, port or free_port(), Stop("stopped"), said.append, QUICK), said


def ended(service):
    service.process.wait(10)


def test_a_child_at_work_is_left_alone(service):
    child, said = service("exec sleep 600"), []
    child.start()
    before = child.process
    assert child.keep_running(said.append) is False
    assert child.process is before
    assert said == []


def test_a_child_that_ended_is_started_again_and_both_write_one_log(service):
    child, said = service("echo out; echo err >&2; exit 3"), []
    child.start()
    ended(child)
    first = child.process.pid
    assert child.keep_running(said.append) is True
    ended(child)
    assert said == ["the daemon ended with code 3; starting it again"]
    assert child.log.read_text() == "out\nerr\n" * 2
    assert child.groups == {first, child.process.pid}


def test_a_child_that_ends_again_and_again_is_given_up_with_its_log(service):
    child, said = service("exit 3"), []
    child.start()
    for _ in range(5):
        ended(child)
        assert child.keep_running(said.append)
    ended(child)
    with pytest.raises(PipelineError) as caught:
        child.keep_running(said.append)
    assert caught.value.message == "the daemon keeps exiting with code 3"
    assert str(child.log) in caught.value.hint
    assert len(said) == 5


def test_a_child_that_was_steady_in_between_is_tried_as_often_again(service):
    child = service("exit 3")
    child.start()
    for _ in range(4):
        ended(child)
        child.keep_running(lambda _: None)
    ended(child)
    child.restarts.started_at -= 61
    child.keep_running(lambda _: None)
    assert child.restarts.in_a_row == 0


def test_a_log_that_has_grown_large_makes_room_for_a_new_one(service):
    child = service("echo twelve bytes", max_log_bytes=10)
    for _ in range(2):
        child.start()
        ended(child)
    assert child.log.read_text() == "twelve bytes\n"
    assert child.log.with_name("daemon.log.1").read_text() == "twelve bytes\n"


def test_ctrl_c_of_the_terminal_does_not_reach_a_child(service):
    child = service("exec sleep 600")
    child.start()
    assert os.getsid(child.process.pid) == child.process.pid


def test_a_code_server_whose_parent_was_killed_is_found_by_its_group():
    script = "sleep 600 & exec -a dagster-code-server sleep 600"
    with subprocess.Popen(["bash", "-c", script], start_new_session=True) as leader:
        try:
            # The other sleeper of the group is nothing of Dagster's, once it is a sleeper.
            wait_until(lambda: serving._members({leader.pid}) == [leader.pid])
            assert serving._members({leader.pid + 100_000}) == []
        finally:
            os.killpg(leader.pid, 9)


def test_children_of_a_killed_up_are_told_from_others_by_when_they_began(tmp_path):
    state = tmp_path / "up.json"
    began_at = psutil.Process().create_time()
    for at, found in ((began_at, [os.getpid()]), (began_at - 60, []), (began_at + 60, [])):
        children = {str(os.getpid()): at, "4194303": at}
        state.write_text(json.dumps({"url": "", "children": children}))
        assert serving._left_behind(state) == found


@pytest.mark.parametrize("kept", [None, "", "{", "{}"])
def test_what_nobody_noted_is_not_looked_for(tmp_path, kept):
    state = tmp_path / "up.json"
    if kept is not None:
        state.write_text(kept)
    assert serving._left_behind(state) == []


def test_what_up_remembers_the_next_one_finds_and_ends(tmp_path, service):
    first, _ = serving_of(tmp_path)
    child = service("exec sleep 600")
    child.start()
    first._remember([child])
    assert serving._left_behind(tmp_path / "up.json") == [child.process.pid]
    second, _ = serving_of(tmp_path)
    with second._alone():
        assert child.process.wait(5) in {0, -15}
    assert not (tmp_path / "up.json").exists()


def test_one_up_serves_a_data_directory_and_names_itself_to_the_next(tmp_path):
    first, _ = serving_of(tmp_path)
    second, _ = serving_of(tmp_path)
    with first._alone():
        for where in ("", f" at {first.url}"):
            with pytest.raises(ConfigurationError) as caught, second._alone():
                pass
            assert caught.value.message == f"another `up` serves {tmp_path} already{where}"
            first._remember([])
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            serving._require_free(port)
    assert caught.value.message == f"cannot listen on 127.0.0.1:{port}: address already in use"
    serving._require_free(port)


def test_a_webserver_that_never_answers_is_told_with_its_log(tmp_path, service):
    up, _ = serving_of(tmp_path)
    child = service("exec sleep 600")
    child.start()
    with pytest.raises(PipelineError) as caught:
        up._await_answer([child])
    assert caught.value.message == f"the webserver does not answer at {up.url}"
    assert str(child.log) in caught.value.hint
    up.stop.request()
    up._await_answer([child])  # who stops it does not wait for an answer


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, []),
        (
            {"import_auto_start": True},
            ["IMPORT_AUTO_START starts nothing: IMPORT_ENABLED is not true"],
        ),
        (
            {"import_auto_start": True, "import_enabled": True},
            ["IMPORT_AUTO_START starts nothing: IMPORT_DB_PATH is not set"],
        ),
    ],
)
def test_nothing_starts_by_itself_without_permission_and_a_database(tmp_path, settings, said):
    up, heard = serving_of(tmp_path, **settings)
    up._start_import(None)  # no run is looked for
    assert heard == said


def wishing(tmp_path, port=None):
    database = tmp_path / "tautulli.db"
    return serving_of(
        tmp_path, port, import_auto_start=True, import_enabled=True, import_db_path=database
    )


def test_an_import_that_is_under_way_is_not_started_again(tmp_path):
    up, heard = wishing(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        with ImportLog(tmp_path).exclusive(tmp_path / "tautulli.db"):
            up._start_import(instance)
        instance.add_run(dg.DagsterRun("import_job", status=dg.DagsterRunStatus.STARTED))
        up._start_import(instance)
    assert heard == ["an import is under way already"] * 2


def test_an_import_is_started_once_and_its_run_named(tmp_path):
    with webserver(200, launched("run-1")) as (url, asked), dg.DagsterInstance.ephemeral() as none:
        up, heard = wishing(tmp_path, urlsplit(url).port)
        up._start_import(none)
    assert heard == [f"import started: {url}/runs/run-1"]
    assert len(asked) == 1
