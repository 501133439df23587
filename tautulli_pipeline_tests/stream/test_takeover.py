"""Taking over from a dead consumer without changing the consumer's settings."""

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


async def pull_and_leave(address, *, custom=None):
    """Leave three messages unacked on a consumer with custom settings."""
    async with prepared(address) as stream, open_publisher(stream) as publisher:
        config = (await stream.find_or_create_consumer())["config"]
        await stream.configure_consumer(config | (custom or {}))
        await publisher.publish([outgoing(n) for n in range(3)])
        async with open_consumer(stream) as consumer:
            assert len(await consumer.pull(3, max_bytes=10**6, linger_seconds=1)) == 3


@pytest.mark.parametrize("seconds", [7, 0.5])
def test_unacked_messages_are_redelivered_immediately_and_the_ack_wait_is_restored(
    address, seconds
):
    """Half a second is the ack wait that a process leaves if it dies during the takeover."""
    custom = {"ack_wait": int(seconds * SECOND), "max_ack_pending": 1234, "description": "mine"}

    async def check():
        await pull_and_leave(address, custom=custom)
        async with prepared(address) as stream:
            await redeliver_unacked(stream)
            config = (await stream.find_or_create_consumer())["config"]
            wanted = ACK_WAIT_SECONDS if seconds < 1 else seconds
            assert config.items() >= (custom | {"ack_wait": int(wanted * SECOND)}).items()
            async with open_consumer(stream) as consumer:
                again = await consumer.pull(3, max_bytes=10**6, linger_seconds=1)
                assert [message.sequence for message in again] == [1, 2, 3]

    asyncio.run(check())


def test_without_unacked_messages_the_consumer_is_not_changed(address, monkeypatch):
    async def check():
        async with prepared(address) as stream:
            changes = []
            monkeypatch.setattr(stream, "configure_consumer", changes.append)
            await redeliver_unacked(stream)
            assert changes == []

    asyncio.run(check())


def test_a_missing_stream_is_an_error(address):
    async def check():
        async with connect(address) as stream:
            await redeliver_unacked(stream)

    with pytest.raises(StreamError) as caught:
        asyncio.run(check())
    prefix = f"cannot take over the consumer of stream {address.stream} at {address.url}: "
    assert caught.value.message == f"{prefix}stream not found"


def test_publishing_is_not_mistaken_for_another_consumer(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            refusing = asyncio.create_task(require_sole_consumer(stream))
            for number in range(5):
                await publisher.publish([outgoing(number)])
                await asyncio.sleep(0.1)
            await refusing

    asyncio.run(check())
