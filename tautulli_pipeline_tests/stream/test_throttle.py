import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.js.api import DiscardPolicy, StreamConfig

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.consumer import open_consumer
from tautulli_pipeline.stream.limits import Limits
from tautulli_pipeline.stream.publisher import PubAcks, open_publisher
from tautulli_pipeline.stream.throttle import Throttle
from tautulli_pipeline_tests.stream.servers import outgoing

EVENTS = 40


async def make(stream, **limits):
    config = StreamConfig(name=stream.address.stream, subjects=["playback.>"], **limits)
    await stream.context.add_stream(config)
    await stream.prepare()


@pytest.mark.parametrize(
    "limits",
    [
        {"max_msgs": 1},
        {"max_msgs": 7},
        {"max_msgs_per_subject": 4},
        {"max_bytes": 6000},
        {"max_msgs_per_subject": 4, "discard": DiscardPolicy.NEW},
    ],
    ids=str,
)
def test_a_stream_smaller_than_the_batch_drops_nothing(address, limits):
    async def check():
        async with connect(address) as stream:
            await make(stream, **limits)
            assert stream.limits.drops_oldest
            got = []
            async with open_publisher(stream) as publisher, open_consumer(stream) as consumer:
                throttle = Throttle(stream, publisher)
                messages = [outgoing(number) for number in range(EVENTS)]
                publishing = asyncio.create_task(throttle.publish([*messages, messages[-1]]))
                while len(got) < EVENTS:
                    batch = await consumer.pull(EVENTS, max_bytes=10**6, linger_seconds=0.05)
                    await consumer.ack(batch)
                    got += [message.payload for message in batch]
                acks = await asyncio.wait_for(publishing, 5)
            assert got == [message.payload for message in messages]
            assert acks.sequences == [*range(1, EVENTS + 1), EVENTS]
            assert acks.duplicates == {EVENTS}

    asyncio.run(check())


def test_publishing_without_a_running_consumer_times_out(address):
    async def check():
        async with connect(replace(address, patience_seconds=0.3)) as stream:
            await make(stream, max_msgs=4)
            async with open_publisher(stream) as publisher:
                throttle = Throttle(stream, publisher)
                with pytest.raises(StreamError, match="4 of its messages were not consumed"):
                    await throttle.publish([outgoing(number) for number in range(EVENTS)])

    asyncio.run(check())


@pytest.mark.parametrize(
    ("config", "drops", "narrow"),
    [
        ({}, "", False),
        ({"max_msgs": 10, "discard": DiscardPolicy.NEW}, "", True),
        ({"max_msgs": 10}, "max_msgs 10", True),
        ({"max_bytes": 2**30, "max_age": 60}, f"max_bytes {2**30}, max_age 60 s", False),
        ({"max_age": 7 * 86_400}, "", False),
        ({"max_age": 30, "discard": DiscardPolicy.NEW}, "max_age 30 s", False),
    ],
    ids=str,
)
def test_the_limits_are_known_at_the_start(address, config, drops, narrow):
    async def check():
        async with connect(address) as stream:
            await make(stream, **config)
            return stream.limits

    limits = asyncio.run(check())
    assert (limits.drops, limits.narrow) == (drops, narrow)


class Recorder:
    """A fake publisher that accepts everything and reports odd positions as duplicates."""

    def __init__(self):
        self.portions = []

    async def publish(self, messages):
        first = sum(map(len, self.portions))
        self.portions.append(list(messages))
        numbers = range(first, first + len(messages))
        return PubAcks([n + 1 for n in numbers], {n - first for n in numbers if n % 2})


async def nothing_left():
    return {"num_pending": 0, "num_ack_pending": 0}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 3000), max_size=30),
    st.integers(1, 12) | st.just(2**62),
    st.integers(1, 9000) | st.just(2**62),
)
def test_portions_are_at_most_half_the_capacity_and_include_every_message(sizes, most, most_bytes):
    limits = Limits(max_messages=most, max_bytes=most_bytes)
    stream = SimpleNamespace(limits=limits, ensure_consumer=nothing_left)
    messages = [outgoing(n, payload=b"x" * size or b" ") for n, size in enumerate(sizes)]
    recorder = Recorder()
    acks = asyncio.run(Throttle(stream, recorder).publish(messages))
    assert [message for portion in recorder.portions for message in portion] == messages
    for portion in recorder.portions:
        assert 1 <= len(portion) <= max(1, most // 2)
        held = sum(len(message.payload) + 512 for message in portion)
        assert len(portion) == 1 or held <= most_bytes // 2
    assert acks.sequences == list(range(1, len(messages) + 1))
    assert acks.duplicates == set(range(1, len(messages), 2))
