"""The parent's side of a consumer process, with real processes that speak its protocol."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from datetime import datetime

import psutil
import pytest

from tautulli_pipeline import errors
from tautulli_pipeline.errors import PipelineError, StoppedError
from tautulli_pipeline.orchestration import consumer_handle
from tautulli_pipeline.orchestration.consumer_handle import (
    ConsumerHandle,
    Drained,
    spawned_consumer,
)
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline_tests.command import wait_until

READY = {"kind": "ready", "warehouse_id": "w-1", "stream_id": "EVENTS@2026"}
DRAINED = {"kind": "drained", "totals": {"imported": 5}, "unsettled": {"key": [1, 2]}}
FAULT = {"exit_code": 6, "message": "the warehouse is locked", "hint": "end the other one"}
FAILED = {"kind": "failed", "fault": FAULT}
FINISHED = {
    "kind": "finished",
    "arrivals": {
        "months": [["2024-01", "movie", 3]],
        "span": ["2024-01-02T03:04:05", "2024-01-05T00:00:00"],
        "discarded": [["cache", "event_id", 2]],
        "dead_letters": 1,
        "row_count": 9,
    },
}
GOING_ON = threading.Event()


class Heard:
    """What a consumer said on the way."""

    def __init__(self):
        self.progress = []
        self.words = []


def saying(*replies):
    """Shell that writes these replies."""
    return "".join(f"echo {shlex.quote(json.dumps(reply))}\n" for reply in replies)


@contextmanager
def consumer(script):
    """A consumer process that runs a shell script, its handle and what was heard of it."""
    heard = Heard()
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        handle = ConsumerHandle(process, heard.progress.append, heard.words.append)
        try:
            yield handle, heard
        finally:
            handle.kill()


def test_a_consumer_that_is_ready_names_warehouse_and_stream():
    with consumer(saying(READY) + "cat > /dev/null") as (handle, _):
        assert handle.await_ready(GOING_ON) == ("w-1", "EVENTS@2026")
        assert not handle.failed


def test_orders_are_one_json_object_a_line(tmp_path):
    said = f'read b; echo "$b" >&3; {saying(DRAINED)}'
    script = f'exec 3> orders; read a; echo "$a" >&3; {saying(READY)} {said} cat >&3'
    with consumer(f"cd {shlex.quote(str(tmp_path))}; {script}") as (handle, _):
        handle.begin("import-1")
        handle.await_ready(GOING_ON)
        assert handle.drain(17, GOING_ON) == Drained({"imported": 5}, {"key": [1, 2]})
        handle.finish()
    orders = [json.loads(line) for line in (tmp_path / "orders").read_text().splitlines()]
    assert orders == [
        {"kind": "begin", "import_id": "import-1"},
        {"kind": "drain", "last_sequence": 17},
        {"kind": "finish"},
    ]


def test_what_is_heard_on_the_way_is_passed_on_and_no_answer_to_an_order():
    progress = [{"kind": "progress", "totals": {"imported": n}} for n in (1, 2)]
    waiting = {"kind": "waiting", "words": "the stream is away"}
    with consumer(saying(progress[0], waiting, progress[1], READY)) as (handle, heard):
        handle.await_ready(GOING_ON)
        assert heard.progress == [{"imported": 1}, {"imported": 2}]
        assert heard.words == ["the stream is away"]


@pytest.mark.parametrize(
    ("exit_code", "kind"),
    [
        (2, errors.ConfigurationError),
        (3, errors.SourceError),
        (5, errors.StreamError),
        (6, errors.WarehouseError),
        (1, PipelineError),
        (99, PipelineError),
    ],
)
def test_what_a_consumer_fails_with_is_raised_here_as_what_it_was(exit_code, kind):
    fault = {"exit_code": exit_code, "message": "it is so", "hint": "do that", "traceback": "there"}
    with consumer(saying({"kind": "failed", "fault": fault})) as (handle, _):
        with pytest.raises(PipelineError) as caught:
            handle.await_ready(GOING_ON)
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.hint) == ("it is so", "do that")
        assert caught.value.__notes__ == ["there"]
        assert handle.ended.exception().message == "it is so"


def test_a_consumer_that_is_gone_without_a_word_is_told_of():
    with consumer("exit 3") as (handle, _):
        with pytest.raises(PipelineError, match="the consumer ended unexpectedly") as caught:
            handle.await_ready(GOING_ON)
        assert "--debug" in caught.value.hint
        wait_until(lambda: handle.failed)


def test_a_consumer_that_is_killed_in_the_middle_of_a_word_is_not_waited_for():
    cut_short = shlex.quote(json.dumps(DRAINED)[:40])
    with consumer(f"{saying(READY)} printf %s {cut_short}") as (handle, _):
        handle.await_ready(GOING_ON)
        handle.ended.exception(10)
        with pytest.raises(PipelineError, match="the consumer ended unexpectedly"):
            handle.drain(5, GOING_ON)


def test_its_own_last_words_count_more_than_its_end():
    with consumer(saying(FAILED)) as (handle, _):
        with pytest.raises(errors.WarehouseError, match="the warehouse is locked"):
            handle.raise_fault()
        with pytest.raises(errors.WarehouseError, match="the warehouse is locked"):
            handle.ended.result(10)


def test_an_order_to_a_consumer_that_is_gone_is_answered_by_its_last_words():
    with consumer("exec <&-\n" + saying(FAILED)) as (handle, _):
        wait_until(lambda: handle.failed)
        for _ in range(3):
            handle.begin("import-1")
        with pytest.raises(errors.WarehouseError):
            handle.drain(5, GOING_ON)


def test_who_waits_for_a_consumer_can_be_stopped():
    stopping = threading.Event()
    stopping.set()
    with consumer("cat > /dev/null") as (handle, _):
        for wait in (handle.await_ready, lambda event: handle.drain(5, event)):
            with pytest.raises(StoppedError) as caught:
                wait(stopping)
            assert caught.value.hint == "import again to resume it"


def test_an_answer_that_is_there_counts_more_than_a_wish_to_stop():
    stopping = threading.Event()
    stopping.set()
    with consumer(f"read order; {saying(DRAINED)} cat > /dev/null") as (handle, _):
        handle.begin("import-1")
        wait_until(handle._replies.qsize)
        assert handle.drain(5, stopping) == Drained({"imported": 5}, {"key": [1, 2]})


def test_a_consumer_with_nothing_in_hand_is_ended_at_once():
    with consumer("cat > /dev/null; sleep 600") as (handle, _):
        began_at = time.monotonic()
        handle.finish()
        assert time.monotonic() - began_at < 5
        assert handle.failed
        with pytest.raises(CancelledError):
            handle.ended.result()


def test_a_consumer_at_work_ends_after_the_batch_in_hand_and_says_what_came():
    with consumer(f"{saying(READY)} read order; sleep 0.05; {saying(FINISHED)}") as (handle, _):
        handle.await_ready(GOING_ON)
        handle.finish()
        assert handle.ended.result(0) == Arrivals(
            months=(("2024-01", "movie", 3),),
            span=(datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 5)),
            discarded=(("cache", "event_id", 2),),
            dead_letters=1,
            row_count=9,
        )


def test_a_consumer_that_finds_nothing_in_hand_ends_with_its_orders():
    nothing = {"months": [], "span": None, "discarded": [], "dead_letters": 0, "row_count": 0}
    said = saying({"kind": "finished", "arrivals": nothing})
    with consumer(f"{saying(READY)} cat > /dev/null; {said}") as (handle, _):
        handle.await_ready(GOING_ON)
        handle.finish()
        assert handle.ended.result(0) == Arrivals((), None, (), 0, 0)


def test_a_consumer_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(consumer_handle, "_ENDS_WITHIN_SECONDS", 0.05)
    with consumer(f"{saying(READY)} exec sleep 600") as (handle, _):
        handle.await_ready(GOING_ON)
        handle.finish()
        assert handle.failed
        with pytest.raises(PipelineError, match="ended unexpectedly"):
            handle.ended.result(0)


def test_killing_twice_does_no_harm():
    with consumer("cat > /dev/null") as (handle, _):
        handle.kill()
        handle.begin("import-1")
        handle.kill()
        assert handle.failed


def test_a_spawned_consumer_ends_with_whoever_would_have_begun_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    with spawned_consumer() as process:
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stdout.read() == b""
    with pytest.raises(KeyboardInterrupt), spawned_consumer() as process:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(process.pid)
    assert list(tmp_path.iterdir()) == []
