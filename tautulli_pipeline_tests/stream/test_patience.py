"""A server that is away is waited for, and for no longer than was allowed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from nats.errors import (
    BadSubscriptionError,
    ConnectionClosedError,
    ConnectionReconnectingError,
    NoRespondersError,
    OutboundBufferLimitError,
)
from nats.js.errors import NotFoundError, ServiceUnavailableError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream import jetstream
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.patience import AWAY
from tautulli_pipeline.stream.wire import WireClient

NOWHERE = StreamAddress("nats://127.0.0.1:1", "MEDIA", "durable", 120, patience_seconds=30)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(jetstream, "_PAUSE_SECONDS", 0.001)


def patiently(request, on_wait, address=NOWHERE):
    stream = JetStream(WireClient(), address, on_wait=on_wait)
    return asyncio.run(stream.patiently("see", request))


def asked(faults, on_wait=lambda _reason: None):
    """The answer of a request that fails with each of `faults` first, and how often it ran."""
    runs = []

    async def request():
        runs.append(None)
        if len(runs) <= len(faults):
            raise faults[len(runs) - 1]
        return "answer"

    return patiently(request, on_wait), len(runs)


def test_an_answer_at_once_is_not_waited_for():
    heard = []
    assert asked([], heard.append) == ("answer", 1)
    assert heard == []


def test_whatever_may_pass_by_itself_is_waited_for_and_told_each_time():
    heard = []
    faults = [
        *(TimeoutError(), NoRespondersError(), ServiceUnavailableError(code=503)),
        *(ConnectionReconnectingError(), OutboundBufferLimitError(), ConnectionResetError()),
    ]
    assert asked(faults, heard.append) == ("answer", 7)
    assert heard == [AWAY] * 6


@pytest.mark.parametrize(
    "fault", [NotFoundError(code=404), ConnectionClosedError(), BadSubscriptionError()]
)
def test_what_does_not_pass_is_a_fault_at_once(fault):
    with pytest.raises(StreamError) as caught:
        asked([TimeoutError(), fault])
    assert caught.value.__cause__ is fault


def test_a_mistake_of_our_own_is_not_told_as_a_fault_of_the_stream():
    with pytest.raises(KeyError):
        asked([TimeoutError(), KeyError(1)])


def test_the_last_fault_is_told_once_the_time_is_over():
    async def request():
        raise faults.pop(0)

    faults = [TimeoutError(), *(NoRespondersError() for _ in range(10_000))]
    began = time.monotonic()
    with pytest.raises(StreamError, match="the server has no JetStream"):
        patiently(request, lambda _: None, replace(NOWHERE, patience_seconds=0.05))
    assert 0.05 <= time.monotonic() - began < 5
    assert len(faults) < 9_999


def test_who_hears_of_the_waiting_may_end_it():
    def stop(_reason):
        raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"):
        asked([TimeoutError()] * 5, stop)


def test_a_pause_lies_between_two_attempts(monkeypatch):
    monkeypatch.setattr(jetstream, "_PAUSE_SECONDS", 0.05)
    began = time.monotonic()
    asked([TimeoutError()] * 3)
    assert time.monotonic() - began >= 0.15
