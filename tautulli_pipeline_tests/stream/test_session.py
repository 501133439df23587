"""Sessions for code without an event loop: futures that can be waited for and abandoned."""

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


def test_what_is_pending_is_counted_on_a_stream_that_is_made_for_it(address):
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
        assert consuming.pending() == (3, 0, 2)
        assert consuming.last_sequence() == 5
    assert count_pending(address) == 3


def test_an_abandoned_batch_is_cancelled_and_the_next_one_is_published(address):
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


def test_who_publishes_is_warned_of_a_stream_that_drops_and_goes_in_portions(address):
    make_stream(address, max_msgs=4)
    heard = []
    patience = replace(address, patience_seconds=0.2)
    with open_publishing(patience, on_wait=heard.append) as publishing:
        assert heard == [
            f"stream {address.stream} may drop events before they are consumed (max_msgs 4); "
            "what it drops is published again"
        ]
        with pytest.raises(StreamError, match="messages on it were not consumed"):
            publishing.publish([outgoing(n) for n in range(9)]).result(5)
        assert publishing.last_sequence() <= 4


@pytest.mark.parametrize(("limits", "narrow"), [({}, False), ({"max_msgs": 100}, True)])
def test_who_consumes_knows_whether_full_batches_can_come(address, limits, narrow):
    make_stream(address, **limits)
    with open_consuming(replace(address, private=True)) as consuming:
        assert consuming.narrow is narrow


def test_only_a_server_that_others_can_reach_is_watched_for_company(address):
    private = replace(address, private=True)
    with open_consuming(private) as first:
        first.pull(1, max_bytes=10**6, linger_seconds=30, last_wanted_sequence=None)
        with (
            pytest.raises(StreamError, match="another process consumes stream"),
            open_consuming(address),
        ):
            pytest.fail("two consume under one name")
        with open_consuming(private) as second:
            assert second.identity == first.identity


@pytest.mark.parametrize("opening", [open_publishing, open_consuming])
def test_a_server_that_does_not_let_us_in_is_a_fault_of_opening(address, opening):
    stranger = replace(address, password="wrong")
    with pytest.raises(StreamError, match="cannot reach the stream server"), opening(stranger):
        pytest.fail("a stranger was let in")
