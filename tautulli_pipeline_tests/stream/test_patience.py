"""Waiting for an unreachable server, up to the allowed time."""

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
from tautulli_pipeline.stream.patience import UNREACHABLE
from tautulli_pipeline.stream.wire import WireClient

NOWHERE = StreamAddress("nats://127.0.0.1:1", "MEDIA", "durable", 120, patience_seconds=30)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(jetstream, "_PAUSE_SECONDS", 0.001)


def retry(request, on_wait, address=NOWHERE):
    stream = JetStream(WireClient(), address, on_wait=on_wait)
    return asyncio.run(stream.retry("read", request))


def asked(faults, on_wait=lambda _reason: None):
    """Return the answer of a request that first fails with each of `faults`, and its run count."""
    runs = []

    async def request():
        runs.append(None)
        if len(runs) <= len(faults):
            raise faults[len(runs) - 1]
        return "answer"

    return retry(request, on_wait), len(runs)


def test_an_immediate_answer_needs_no_wait():
    reasons = []
    assert asked([], reasons.append) == ("answer", 1)
    assert reasons == []


def test_every_transient_error_is_retried_and_reported():
    reasons = []
    faults = [
        *(TimeoutError(), NoRespondersError(), ServiceUnavailableError(code=503)),
        *(ConnectionReconnectingError(), OutboundBufferLimitError(), ConnectionResetError()),
    ]
    assert asked(faults, reasons.append) == ("answer", 7)
    assert reasons == [UNREACHABLE] * 6


@pytest.mark.parametrize(
    "fault", [NotFoundError(code=404), ConnectionClosedError(), BadSubscriptionError()]
)
def test_a_permanent_error_is_raised_immediately(fault):
    with pytest.raises(StreamError) as caught:
        asked([TimeoutError(), fault])
    assert caught.value.__cause__ is fault


def test_a_bug_is_not_reported_as_a_stream_error():
    with pytest.raises(KeyError):
        asked([TimeoutError(), KeyError(1)])


def test_the_last_error_is_raised_after_the_timeout():
    async def request():
        raise faults.pop(0)

    faults = [TimeoutError(), *(NoRespondersError() for _ in range(10_000))]
    began = time.monotonic()
    with pytest.raises(StreamError, match="JetStream is not enabled on the server"):
        retry(request, lambda _: None, replace(NOWHERE, patience_seconds=0.05))
    assert 0.05 <= time.monotonic() - began < 30
    assert len(faults) < 9_999


def test_the_wait_callback_can_abort_the_wait():
    def stop(_reason):
        raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"):
        asked([TimeoutError()] * 5, stop)


def test_there_is_a_pause_between_attempts(monkeypatch):
    monkeypatch.setattr(jetstream, "_PAUSE_SECONDS", 0.05)
    began = time.monotonic()
    asked([TimeoutError()] * 3)
    assert time.monotonic() - began >= 0.15
