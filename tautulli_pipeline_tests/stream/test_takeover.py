"""What a dead consumer left is taken over, and the consumer's own settings stay."""

from __future__ import annotations

import asyncio

import pytest

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.consumer import open_consumer
from tautulli_pipeline.stream.jetstream import ACK_WAIT_SECONDS
from tautulli_pipeline.stream.publisher import open_publisher
from tautulli_pipeline.stream.takeover import redeliver_unacked, require_sole_consumer
from tautulli_pipeline_tests.stream.servers import outgoing, prepared

SECOND = 1_000_000_000


async def pull_and_leave(address, *, own=None):
    """Leave three messages unacked on a consumer with settings of somebody's own."""
    async with prepared(address) as stream, open_publisher(stream) as publisher:
        config = (await stream.consumer())["config"]
        await stream.configure_consumer(config | (own or {}))
        await publisher.publish([outgoing(n) for n in range(3)])
        async with open_consumer(stream) as consumer:
            assert len(await consumer.pull(3, max_bytes=10**6, linger_seconds=1)) == 3


@pytest.mark.parametrize("seconds", [7, 0.5])
def test_unacked_messages_come_again_at_once_and_the_deadline_is_as_before(address, seconds):
    """Half a second is what a process leaves that dies while it takes over."""
    own = {"ack_wait": int(seconds * SECOND), "max_ack_pending": 1234, "description": "mine"}

    async def check():
        await pull_and_leave(address, own=own)
        async with prepared(address) as stream:
            await redeliver_unacked(stream)
            config = (await stream.consumer())["config"]
            wanted = ACK_WAIT_SECONDS if seconds < 1 else seconds
            assert config.items() >= (own | {"ack_wait": int(wanted * SECOND)}).items()
            async with open_consumer(stream) as consumer:
                again = await consumer.pull(3, max_bytes=10**6, linger_seconds=1)
                assert [message.sequence for message in again] == [1, 2, 3]

    asyncio.run(check())


def test_where_nothing_is_unacked_nothing_is_changed(address, monkeypatch):
    async def check():
        async with prepared(address) as stream:
            changes = []
            monkeypatch.setattr(stream, "configure_consumer", changes.append)
            await redeliver_unacked(stream)
            assert changes == []

    asyncio.run(check())


def test_a_consumer_that_cannot_be_had_is_a_fault(address):
    async def check():
        async with connect(address) as stream:
            await redeliver_unacked(stream)

    with pytest.raises(StreamError) as caught:
        asyncio.run(check())
    words = f"cannot take over the consumer of stream {address.stream} at {address.url}: "
    assert caught.value.message == f"{words}stream not found"


def test_alone_on_a_stream_that_others_publish_to_nobody_is_company(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            refusing = asyncio.create_task(require_sole_consumer(stream))
            for number in range(5):
                await publisher.publish([outgoing(number)])
                await asyncio.sleep(0.1)
            await refusing

    asyncio.run(check())
