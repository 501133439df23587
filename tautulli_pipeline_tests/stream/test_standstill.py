import asyncio
import time
from dataclasses import replace

import pytest
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.consumer import open_consumer
from tautulli_pipeline.stream.publisher import open_publisher
from tautulli_pipeline_tests.stream.servers import outgoing


async def publish_into_a_full_stream(
    address, during, *, consume=True, patience_seconds=60, **settings
):
    """Publish four times the stream's capacity; return the error and the wait reasons."""
    waits = []
    patient = replace(address, patience_seconds=patience_seconds)
    async with connect(patient, on_wait=waits.append) as stream:
        config = StreamConfig(
            name=address.stream,
            subjects=["playback.>"],
            max_msgs=10,
            discard=DiscardPolicy.NEW,
            **settings,
        )
        await stream.context.add_stream(config)
        await stream.context.add_consumer(address.stream, ConsumerConfig(durable_name="other"))
        await stream.prepare()
        async with (
            open_publisher(stream) as publisher,
            open_consumer(stream) as consumer,
        ):
            publishing = asyncio.create_task(publisher.publish([outgoing(n) for n in range(40)]))
            if consume:
                await consumer.ack(await consumer.pull(10, max_bytes=10**6, linger_seconds=0.5))
            await during(stream)
            with pytest.raises(StreamError) as caught:
                await publishing
    return caught.value, waits


async def nothing(_stream):
    pass


def test_a_stream_full_of_consumed_messages_is_an_error(address):
    began = time.monotonic()
    fault, waits = asyncio.run(publish_into_a_full_stream(address, nothing))
    assert 5 < time.monotonic() - began < 50
    assert fault.message == (
        f"stream {address.stream} is full (max_msgs 10) and keeps consumed messages "
        "(limits retention)"
    )
    assert "import again to resume" in fault.hint
    assert set(waits) == {"the stream is full; waiting for the consumer to make room"}


def test_a_stream_full_of_messages_for_other_consumers_is_waited_for_and_reported(address):
    fault, waits = asyncio.run(
        publish_into_a_full_stream(
            address, nothing, patience_seconds=9, retention=RetentionPolicy.INTEREST
        )
    )
    reason = "the stream is full of messages that other consumers have not acked"
    assert waits[-1] == f"{reason}; waiting"
    assert fault.message.endswith(f"did not acknowledge 30 messages within 9 s: {reason}")


@pytest.mark.parametrize("recreate", [False, True], ids=["deleted", "recreated"])
def test_a_deleted_or_recreated_stream_is_not_waited_for(address, recreate):
    messages = []

    async def delete(stream):
        config = (await stream.context.stream_info(address.stream)).config
        await stream.context.delete_stream(address.stream)
        if recreate:
            await stream.context.add_stream(config)
        with pytest.raises(StreamError) as caught:
            await stream.require_stream()
        messages.append(caught.value.message)

    began = time.monotonic()
    fault, _ = asyncio.run(publish_into_a_full_stream(address, delete, consume=False))
    assert time.monotonic() - began < 50
    what = "was deleted and recreated" if recreate else "was deleted"
    assert messages == [f"stream {address.stream} {what} while the import ran"]
    # The publisher may check between the deletion and the recreation.
    assert fault.message.startswith(f"stream {address.stream} was deleted ")
    assert "import again" in fault.hint
