"""The guardian and its server are killed together at each step that uses them."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tautulli_pipeline.stream import connection, guardian, server, session
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.consumer import DurableConsumer
from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, Outgoing, Publisher
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline.stream.session import open_consuming, open_publishing, read_position

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

MESSAGES = [
    Outgoing(f"playback.test.n{n}", b"{}", {MESSAGE_ID_HEADER: f"message-{n}"}) for n in range(3)
]
STEPS = {
    "connect": (connection, "make_client"),
    "find the stream": (JetStream, "_find_or_create_stream"),
    "find the consumer": (JetStream, "find_or_create_consumer"),
    "publish": (Publisher, "_send"),
    "wait for PubAcks": (Publisher, "_await_answers"),
    "take over": (session, "redeliver_unacked"),
    "pull": (DurableConsumer, "pull"),
    "ack": (DurableConsumer, "ack"),
    "look at the consumer": (JetStream, "ensure_consumer"),
    "read the position": (JetStream, "consumer_info"),
}


def pids_of(data_dir: Path) -> list[int]:
    """Return the guardian and the server of a data directory, also before they are announced."""
    directory = str(data_dir / "nats")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # processes of others
            if process.cwd() == directory and process.pid != os.getpid():
                found.append(process.pid)
    return found


def kill_both(data_dir: Path) -> None:
    for pid in pids_of(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def once_before(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, kill: Callable[[], None]
) -> list[bool]:
    """Kill before the first call of a function; return where each call is noted."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments: object, **named: object) -> object:
        calls.append(True)
        if len(calls) == 1:
            kill()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, wrapped)
    return calls


@pytest.mark.parametrize("step", STEPS)
def test_work_goes_on_after_both_were_killed(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = once_before(monkeypatch, *STEPS[step], lambda: kill_both(tmp_path))
    with embedded_server(tmp_path) as found:
        address = StreamAddress(
            found.url, "S", "durable", 120, found.user, found.password, private=True
        )
        with open_publishing(address) as publishing:
            acks = publishing.publish(MESSAGES).result()
        with open_consuming(address) as consuming:
            messages = set()
            while len(messages) < len(MESSAGES):
                pulled = consuming.pull(
                    10, max_bytes=2**20, linger_seconds=0.1, last_wanted_sequence=None
                ).result()
                messages |= {message.sequence for message in pulled}
                consuming.ack(pulled).result()
            while consuming.pending()[:2] != (0, 0):  # acks take a moment to be counted
                pass
        position = read_position(address)
    assert calls
    assert position is not None
    assert sorted(acks.sequences) == sorted(messages) == [1, 2, 3]
    assert (position.undelivered, position.unacked) == (0, 0)


@pytest.mark.parametrize("announced", [False, True])
def test_a_start_goes_on_after_both_were_killed(
    announced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starter replaces them as long as nobody else does."""
    start = server._start_guardian
    starts = []

    def start_and_kill(*arguments: object) -> None:
        start(*arguments)
        starts.append(True)
        if len(starts) == 1:
            while announced and server.running_server(tmp_path) is None:
                pass
            kill_both(tmp_path)

    monkeypatch.setattr(server, "_start_guardian", start_and_kill)
    with embedded_server(tmp_path) as address:
        assert server.running_server(tmp_path) == address
    assert len(starts) == 2


def test_a_guardian_restarts_a_server_that_was_killed_before_it_was_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server of this kind ends by itself, as if it were killed."""
    program = tmp_path / "nats-server"
    program.write_text(
        f"#!/bin/sh\n[ -e started ] || {{ touch started; kill -9 $$; }}\n"
        f'exec {server._locate("nats-server")} "$@"\n'
    )
    program.chmod(0o700)
    with embedded_server(tmp_path / "data", binary=str(program)) as address:
        written = tmp_path / "data" / "nats" / guardian.CONNECTION_FILE
        assert json.loads(written.read_text())["url"] == address.url
    assert (tmp_path / "data" / "nats" / "started").exists()
