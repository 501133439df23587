"""The client for the consumer process, with real processes that speak the protocol."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime

import psutil
import pytest

from tautulli_pipeline import errors
from tautulli_pipeline.errors import PipelineError, StoppedError, WarehouseHeldError
from tautulli_pipeline.imports import consumer_client
from tautulli_pipeline.imports.consumer_client import ConsumerClient, spawned_consumer
from tautulli_pipeline.imports.consumer_protocol import Drained
from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline_tests.command import wait_until

READY = {"kind": "ready", "warehouse_id": "w-1"}
DRAINED = {"kind": "drained", "outcomes": {"imported": 5}, "unsettled": {"key": [1, 2]}}
FAILED = {
    "kind": "failed",
    "exit_code": 6,
    "message": "the warehouse is locked",
    "hint": "stop the other process",
}
FINISHED = {
    "kind": "finished",
    "arrivals": {
        "stored": 3,
        "months": [["2024-01", 3]],
        "span": ["2024-01-02T03:04:05", "2024-01-05T00:00:00"],
        "discarded": [["cache", "event_id", 2]],
        "dead_letters": 1,
        "row_count": 9,
    },
}
SINCE = datetime(2024, 1, 1)


class Received:
    """The progress and wait messages of a consumer, and a way to stop waiting for it."""

    def __init__(self):
        self.stop = Stop("the import was stopped", hint="import again to resume it")
        self.progress = []
        self.words = []
        self.held = []


def saying(*replies):
    """Return shell code that writes these replies."""
    return "".join(f"echo {shlex.quote(json.dumps(reply))}\n" for reply in replies)


@contextmanager
def consumer(script):
    """Yield the client of a consumer process that runs a shell script, and its messages."""
    received = Received()
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        client = ConsumerClient(
            process,
            received.stop,
            on_progress=received.progress.append,
            on_wait=received.words.append,
            on_held=received.held.append,
        )
        try:
            yield client, received
        finally:
            client.kill()


def has_ended(client):
    try:
        client.require_running()
    except PipelineError:
        return True
    return False


def test_a_ready_consumer_reports_the_warehouse_id():
    with consumer(saying(READY) + "cat > /dev/null") as (client, _):
        assert client.await_ready(0).warehouse_id == "w-1"
        assert not has_ended(client)


def test_orders_are_one_json_object_per_line(tmp_path):
    said = f'read b; echo "$b" >&3; {saying(DRAINED)}'
    script = f'exec 3> orders; read a; echo "$a" >&3; {saying(READY)} {said} cat >&3'
    with consumer(f"cd {shlex.quote(str(tmp_path))}; {script}") as (client, _):
        client.begin("import-1")
        client.await_ready(0)
        assert client.drain(17) == Drained(Outcomes(imported=5), {"key": [1, 2]})
        assert client.finish(SINCE) is None
    orders = [json.loads(line) for line in (tmp_path / "orders").read_text().splitlines()]
    assert orders == [
        {"kind": "begin", "import_id": "import-1", "sample": []},
        {"kind": "drain", "last_sequence": 17},
        {"kind": "finish", "since": "2024-01-01T00:00:00"},
    ]


def test_progress_and_wait_messages_go_to_the_callbacks_and_answer_no_order():
    progress = [{"kind": "progress", "outcomes": {"imported": n}} for n in (1, 2)]
    waiting = {"kind": "waiting", "words": "the stream is unreachable"}
    with consumer(saying(progress[0], waiting, progress[1], READY)) as (client, received):
        client.await_ready(0)
        assert received.progress == [Outcomes(imported=1), Outcomes(imported=2)]
        assert received.words == ["the stream is unreachable"]


HELD = {"kind": "held", "message": "process 7 has it open", "hint": "close it"}
HOLDING = f"for i in 1 2 3 4 5 6; do {saying(HELD)} sleep 0.1; done;"


def test_a_held_warehouse_is_waited_for_and_named():
    with consumer(f"{HOLDING} {saying(READY)} cat > /dev/null") as (client, received):
        assert client.await_ready(30).warehouse_id == "w-1"
        assert {*received.held} == {"process 7 has it open; waiting for it to close the file"}
        assert client.await_ready(0).warehouse_id == "w-1"  # it is ready for good
        client.require_not_held(0)


def test_the_wait_for_a_held_warehouse_ends():
    with consumer(f"{HOLDING} {HOLDING} cat > /dev/null") as (client, _):
        began_at = time.monotonic()
        with pytest.raises(WarehouseHeldError, match="process 7 has it open") as caught:
            client.await_ready(0.3)
        assert time.monotonic() - began_at >= 0.3
        assert (caught.value.exit_code, caught.value.hint) == (6, "close it")
        client.require_not_held(30)
        with pytest.raises(WarehouseHeldError):
            client.require_not_held(0.2)


def test_a_program_that_has_closed_the_warehouse_is_not_blamed():
    with consumer(f"{saying(HELD)} sleep 0.5; {saying(READY)} cat > /dev/null") as (client, got):
        wait_until(lambda: got.held)
        assert client.await_ready(0).warehouse_id == "w-1"


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
def test_an_error_of_the_consumer_is_raised_with_its_original_class(exit_code, kind):
    said = FAILED | {"exit_code": exit_code, "traceback": "there"}
    with consumer(saying(said)) as (client, _):
        with pytest.raises(PipelineError) as caught:
            client.await_ready(0)
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.hint) == (FAILED["message"], FAILED["hint"])
        assert caught.value.__notes__ == ["there"]
        with pytest.raises(kind):
            client.require_running()


def test_a_consumer_that_ends_without_a_reply_is_an_error():
    with consumer("exit 3") as (client, _):
        with pytest.raises(PipelineError, match="the consumer ended unexpectedly") as caught:
            client.await_ready(0)
        assert "--debug" in caught.value.hint


def test_a_consumer_killed_in_the_middle_of_a_reply_is_an_error():
    cut_short = shlex.quote(json.dumps(DRAINED)[:40])
    with consumer(f"{saying(READY)} printf %s {cut_short}") as (client, _):
        client.await_ready(0)
        with pytest.raises(PipelineError, match="the consumer ended unexpectedly"):
            client.drain(5)


def test_an_order_to_a_dead_consumer_raises_its_last_error():
    with consumer("exec <&-\n" + saying(FAILED)) as (client, _):
        wait_until(lambda: has_ended(client))
        for _ in range(3):
            client.begin("import-1")
        with pytest.raises(errors.WarehouseError, match="the warehouse is locked"):
            client.drain(5)


def test_waiting_for_a_consumer_can_be_stopped():
    with consumer("cat > /dev/null") as (client, received):
        received.stop.request()
        for wait in (lambda: client.await_ready(0), lambda: client.drain(5)):
            with pytest.raises(StoppedError):
                wait()


def test_an_available_reply_is_returned_even_if_a_stop_is_requested():
    with consumer(f"read order; {saying(DRAINED)} cat > /dev/null") as (client, received):
        received.stop.request()
        client.begin("import-1")
        wait_until(client._replies.qsize)
        assert client.drain(5) == Drained(Outcomes(imported=5), {"key": [1, 2]})


def test_a_consumer_without_a_batch_is_ended_immediately():
    with consumer("cat > /dev/null; sleep 600") as (client, _):
        began_at = time.monotonic()
        assert client.finish(SINCE) is None
        assert time.monotonic() - began_at < 30
        assert has_ended(client)


def test_a_ready_consumer_ends_after_its_batch_and_reports_arrivals():
    with consumer(f"{saying(READY)} read order; sleep 0.05; {saying(FINISHED)}") as (client, _):
        client.await_ready(0)
        assert client.finish(SINCE) == Arrivals(
            stored=3,
            months=(("2024-01", 3),),
            span=(datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 5)),
            discarded=(("cache", "event_id", 2),),
            dead_letters=1,
            row_count=9,
        )
        client.finish(None)  # repeating it is harmless


def test_a_consumer_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(consumer_client, "_END_TIMEOUT_SECONDS", 0.05)
    with consumer(f"{saying(READY)} exec sleep 600") as (client, _):
        client.await_ready(0)
        assert client.finish(SINCE) is None
        with pytest.raises(PipelineError, match="ended unexpectedly"):
            client.require_running()


def test_killing_twice_is_harmless():
    with consumer("cat > /dev/null") as (client, _):
        client.kill()
        client.begin("import-1")
        client.kill()
        assert has_ended(client)


def test_after_a_failure_the_consumer_finishes_its_batch(tmp_path):
    batch = tmp_path / "batch"
    script = f"{saying(READY)} read order; sleep 0.2; echo stored > {shlex.quote(str(batch))}"
    with consumer(script) as (client, _):
        client.await_ready(0)
        with pytest.raises(ZeroDivisionError), client.ended_after_failure():
            raise ZeroDivisionError
        assert batch.read_text() == "stored\n"
        assert has_ended(client)


def test_an_interrupt_kills_the_consumer_without_waiting_for_its_batch():
    with consumer(f"{saying(READY)} exec sleep 600") as (client, _):
        client.await_ready(0)
        began_at = time.monotonic()
        with pytest.raises(KeyboardInterrupt), client.ended_after_failure():
            raise KeyboardInterrupt
        assert time.monotonic() - began_at < 30
        assert has_ended(client)


def interrupted_twice_in_a_deallocation(stop):
    signal.raise_signal(signal.SIGINT)
    with suppress(KeyboardInterrupt):  # Python ignores it there
        signal.raise_signal(signal.SIGINT)
    stop.require_none()


def test_an_interrupt_that_python_ignores_kills_the_consumer_as_well():
    with consumer(saying(READY) + "exec sleep 30") as (client, received), received.stop.heard():
        client.await_ready(0)
        began_at = time.monotonic()
        with pytest.raises(StoppedError), client.ended_after_failure():
            interrupted_twice_in_a_deallocation(received.stop)
        assert time.monotonic() - began_at < 30
        assert has_ended(client)


def test_a_second_signal_ends_the_wait_for_a_batch():
    with consumer(saying(READY) + "exec sleep 30") as (client, received), received.stop.heard():
        client.await_ready(0)
        received.stop.request()
        again = threading.Timer(0.2, received.stop.request)
        again.start()
        began_at = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.finish(None)
        assert time.monotonic() - began_at < 30
        assert has_ended(client)
        again.join()


def test_a_spawned_consumer_ends_when_its_parent_goes_away(tmp_path, monkeypatch):
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
