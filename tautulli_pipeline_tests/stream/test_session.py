"""Sessions for synchronous code, with futures that can be awaited and cancelled."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.session import count_pending, open_consuming, open_publishing
from tautulli_pipeline_tests.command import wait_until
from tautulli_pipeline_tests.stream.servers import outgoing


def make_stream(address, **config):
    async def make():
        async with connect(address) as stream:
            await stream.context.add_stream(
                StreamConfig(name=address.stream, subjects=["playback.>"], **config)
            )

    asyncio.run(make())


def test_count_pending_creates_the_stream_and_counts_unacked_messages(address):
    assert count_pending(address) == 0
    with open_publishing(address) as publishing:
        publishing.publish([outgoing(n) for n in range(5)]).result(5)
    assert count_pending(address) == 5
    with open_consuming(replace(address, private=True)) as consuming:
        pulled = consuming.pull(
            2, max_bytes=10**6, linger_seconds=2, last_wanted_sequence=None
        ).result(5)
        assert count_pending(address) == 5
        consuming.ack(pulled).result(5)
        wait_until(lambda: consuming.pending() == (3, 0, 2))  # acks take a moment to be counted
        assert consuming.last_sequence() == 5
    assert count_pending(address) == 3


def test_a_batch_can_be_cancelled_and_the_next_one_published(address):
    make_stream(address, max_msgs=1, discard=DiscardPolicy.NEW)
    with open_publishing(address) as publishing:
        waiting = publishing.publish([outgoing(n) for n in range(3)])
        wait_until(lambda: publishing.last_sequence() == 1, 10)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(CancelledError):
            waiting.result(5)
        assert publishing.last_sequence() == 1
        assert publishing.publish([outgoing(0)]).result(5).duplicates == {0}


def test_publishing_to_a_stream_that_drops_messages_warns_and_is_throttled(address):
    make_stream(address, max_msgs=4)
    reasons = []
    patience = replace(address, patience_seconds=0.2)
    with open_publishing(patience, on_wait=reasons.append) as publishing:
        assert reasons == [
            f"stream {address.stream} may drop events before they are consumed (max_msgs 4); "
            "dropped events are published again"
        ]
        with pytest.raises(StreamError, match="of its messages were not consumed"):
            publishing.publish([outgoing(n) for n in range(9)]).result(5)
        assert publishing.last_sequence() <= 4


@pytest.mark.parametrize(("limits", "narrow"), [({}, False), ({"max_msgs": 100}, True)])
def test_a_consuming_session_knows_whether_the_stream_is_narrow(address, limits, narrow):
    make_stream(address, **limits)
    with open_consuming(replace(address, private=True)) as consuming:
        assert consuming.narrow is narrow


def test_only_a_shared_server_is_checked_for_other_consumers(address):
    private = replace(address, private=True)
    with open_consuming(private) as first:
        first.pull(1, max_bytes=10**6, linger_seconds=30, last_wanted_sequence=None)
        with (
            pytest.raises(StreamError, match="another process consumes stream"),
            open_consuming(address),
        ):
            pytest.fail("two processes share a consumer")
        with open_consuming(private) as second:
            assert second.identity == first.identity


@pytest.mark.parametrize("opening", [open_publishing, open_consuming])
def test_a_refused_login_fails_when_the_session_opens(address, opening):
    stranger = replace(address, password="wrong")
    with pytest.raises(StreamError, match="cannot reach the stream server"), opening(stranger):
        pytest.fail("the login was accepted")
