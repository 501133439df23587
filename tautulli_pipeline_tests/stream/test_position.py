"""Reading the consumer's position without side effects."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from nats.js.errors import NotFoundError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.consumer import open_consumer
from tautulli_pipeline.stream.publisher import open_publisher
from tautulli_pipeline.stream.session import ConsumerPosition, read_position
from tautulli_pipeline_tests.stream.servers import outgoing, prepared


def test_without_a_stream_the_position_is_none_and_no_stream_is_created(address):
    async def require_no_stream():
        async with connect(address) as stream:
            with pytest.raises(NotFoundError):
                await stream.context.stream_info(address.stream)

    assert read_position(address) is None
    asyncio.run(require_no_stream())


def test_without_the_consumer_the_position_is_none_and_no_consumer_is_created(address):
    async def check():
        async with prepared(address) as stream:
            return await stream.context.consumers_info(address.stream)

    asyncio.run(check())
    assert read_position(replace(address, durable_name="another")) is None
    assert [info.name for info in asyncio.run(check())] == [address.durable_name]


def test_each_message_is_undelivered_then_unacked_then_acked(address):
    async def prepare():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            await publisher.publish([outgoing(n) for n in range(10)])
            return stream.identity

    async def consume():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            batch = await consumer.pull(6, max_bytes=10**6, linger_seconds=1)
            await consumer.ack([batch[0], batch[1], batch[3]])
            deadline = time.monotonic() + 60
            while (await consumer.pending())[1] != 3:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

    stream_id = asyncio.run(prepare())
    before = ConsumerPosition(stream_id, 10, acked_sequence=0, undelivered=10, unacked=0)
    assert read_position(address) == before
    assert read_position(address) == before
    asyncio.run(consume())
    assert read_position(address) == replace(before, acked_sequence=2, undelivered=4, unacked=3)


def test_a_refused_login_is_an_error(address):
    with pytest.raises(StreamError, match=r"cannot reach the stream server at nats://127\.0"):
        read_position(replace(address, password="wrong"))
