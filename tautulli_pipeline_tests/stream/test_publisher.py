import asyncio
import os
import signal
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

import orjson
import pytest
from nats.aio.client import DEFAULT_PENDING_SIZE
from nats.js.api import DiscardPolicy, StreamConfig

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream import publisher as publisher_module
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.guardian import CONNECTION_FILE
from tautulli_pipeline.stream.publisher import Publisher, open_publisher
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline.stream.wire import header_block
from tautulli_pipeline_tests.stream.servers import (
    address_on,
    eventually,
    messages_on,
    nats_server,
    outgoing,
    prepared,
)


@asynccontextmanager
async def open_as(kind, stream):
    """Open a publisher of class `kind` with its subscription."""
    publisher = kind(stream, inbox := stream.client.new_inbox())
    async with stream.client.subscribed(f"{inbox}.>", publisher.receive):
        yield publisher


def test_every_message_is_stored_once_with_its_headers_and_bytes(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            first = [outgoing(n) for n in range(300)]
            second = [
                outgoing(300, payload=b"\x00\xff not text"),
                outgoing(301, payload=b"\xf0\x9f\x8e\xac" * 100_000),
                outgoing(302, payload=b" "),
            ]
            one, none, two = [await publisher.publish(batch) for batch in (first, [], second)]
            assert one.sequences == list(range(1, 301))
            assert none.sequences == []
            assert two.sequences == [301, 302, 303]
            assert one.duplicates == none.duplicates == two.duplicates == set()
            assert await messages_on(stream) == list(enumerate(first + second, 1))

    asyncio.run(check())


def test_duplicates_are_reported_by_position_with_the_sequence_of_the_original(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            await publisher.publish([outgoing(1), outgoing(2)])
            mixed = [outgoing(3), outgoing(2), outgoing(4), outgoing(1), outgoing(4)]
            acks = await publisher.publish(mixed)
            assert acks.duplicates == {1, 3, 4}
            assert acks.sequences == [3, 2, 4, 1, 4]
            stored = [message for _, message in await messages_on(stream)]
            assert stored == [outgoing(n) for n in (1, 2, 3, 4)]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("window", "limit", "size"), [("_WINDOW_MESSAGES", 7, 10), ("_WINDOW_BYTES", 7 * 1000, 1000)]
)
def test_the_messages_in_flight_are_limited(address, monkeypatch, window, limit, size):
    monkeypatch.setattr(publisher_module, window, limit)
    in_flight, most = 0, 0

    class Watched(Publisher):
        def receive(self, frame):
            nonlocal in_flight
            in_flight -= 1
            super().receive(frame)

    async def check():
        async with prepared(address) as stream:
            send = stream.client.send

            async def counted(frames):
                nonlocal in_flight, most
                in_flight += frames.count(b"HPUB ")
                most = max(most, in_flight)
                await send(frames)

            stream.client.send = counted
            messages = [outgoing(n, payload=b"x" * size) for n in range(50)]
            async with open_as(Watched, stream) as watched:
                assert (await watched.publish(messages)).sequences == list(range(1, 51))

    asyncio.run(check())
    assert 1 < most <= 8


def acks_time_out_after(monkeypatch, seconds):
    monkeypatch.setattr(publisher_module, "_ACK_TIMEOUT_SECONDS", seconds)


def test_lost_acks_create_no_duplicates(address, monkeypatch):
    acks_time_out_after(monkeypatch, 0.2)
    dropped = []

    class Lossy(Publisher):
        def receive(self, frame):
            position = int(frame.subject.rsplit(b".", 1)[1])
            if position % 3 == 0 and position not in dropped:
                dropped.append(position)
            else:
                super().receive(frame)

    async def check():
        async with (
            prepared(address) as stream,
            open_as(Lossy, stream) as publisher,
        ):
            messages = [outgoing(n) for n in range(100)]
            acks = await publisher.publish(messages)
            assert acks.sequences == list(range(1, 101))
            assert acks.duplicates == set(dropped) == set(range(0, 100, 3))
            assert await messages_on(stream) == list(enumerate(messages, 1))

    asyncio.run(check())


def test_a_late_ack_is_not_counted_for_the_next_batch(address):
    async def check():
        late = []

        class Late(Publisher):
            def receive(self, frame):
                late.append(frame)
                super().receive(frame)

        async with prepared(address) as stream, open_as(Late, stream) as publisher:
            await publisher.publish([outgoing(1), outgoing(2)])
            publishing = asyncio.create_task(publisher.publish([outgoing(3), outgoing(4)]))
            await asyncio.sleep(0)
            for frame in late[:2]:
                publisher.receive(frame)
            assert (await publishing).sequences == [3, 4]

    asyncio.run(check())


def test_a_server_killed_while_publishing_loses_and_duplicates_nothing(tmp_path, monkeypatch):
    acks_time_out_after(monkeypatch, 1)

    async def check(server):
        address = address_on(server)
        async with (
            prepared(address) as stream,
            open_publisher(stream) as publisher,
        ):
            messages = [outgoing(n, payload=b"%d " % n + b"x" * 2000) for n in range(20_000)]
            publishing = asyncio.create_task(publisher.publish(messages))
            await eventually(lambda: publisher._round and len(publisher._round.unanswered) < 19_000)
            connection = orjson.loads((tmp_path / "nats" / CONNECTION_FILE).read_bytes())
            assert not publishing.done()
            os.kill(connection["server_pid"], signal.SIGKILL)
            acks = await asyncio.wait_for(publishing, 30)
            state = (await stream.context.stream_info(address.stream)).state
            assert sorted(acks.sequences) == list(range(1, 20_001))
            assert (state.first_seq, state.last_seq, state.messages) == (1, 20_000, 20_000)
            for position in range(0, 20_000, 997):
                sequence = acks.sequences[position]
                stored = await stream.context.get_msg(address.stream, sequence)
                assert stored.data == messages[position].payload

    with embedded_server(tmp_path) as server:
        asyncio.run(check(server))


@pytest.mark.parametrize(
    ("count", "size"),
    [
        pytest.param(4000, 5000, id="more bytes than the buffer holds"),
        pytest.param(6000, 10, id="more messages than may be in flight"),
    ],
)
def test_while_the_server_is_unreachable_the_send_buffer_stays_limited(
    tmp_path, monkeypatch, count, size
):
    acks_time_out_after(monkeypatch, 0.2)

    async def check():
        with ExitStack() as server:
            config = f'jetstream {{ store_dir: "{tmp_path}" }}'
            url = server.enter_context(nats_server(tmp_path, config))
            here = StreamAddress(url, "S", "d", 120, patience_seconds=0.3)
            async with (
                prepared(here) as stream,
                open_publisher(stream) as publisher,
            ):
                server.close()
                await eventually(lambda: not stream.client.is_connected)
                messages = [outgoing(n, payload=b"x" * size) for n in range(count)]
                with pytest.raises(StreamError, match=f"did not acknowledge {count} messages"):
                    await asyncio.wait_for(publisher.publish(messages), 10)
                assert 0 < stream.client.pending_data_size < DEFAULT_PENDING_SIZE + 1000
        with pytest.raises(StreamError, match="cannot publish to"):
            await publisher.publish([outgoing(1)])

    asyncio.run(check())


@pytest.mark.parametrize("limit", [{"max_msgs": 10}, {"max_bytes": 1600}])
def test_publishing_to_a_full_stream_waits_and_loses_nothing(address, limit):
    async def check():
        waits = []
        async with connect(address, on_wait=waits.append) as stream:
            await stream.context.add_stream(
                StreamConfig(
                    name=address.stream,
                    subjects=["playback.>"],
                    discard=DiscardPolicy.NEW,
                    **limit,
                )
            )
            await stream.prepare()
            async with open_publisher(stream) as publisher:
                messages = [outgoing(n) for n in range(15)]
                publishing = asyncio.create_task(publisher.publish(messages))
                await eventually(lambda: waits)
                assert not publishing.done()
                before = await messages_on(stream)
                assert 0 < len(before) < 15
                await stream.context.purge_stream(address.stream)
                acks = await asyncio.wait_for(publishing, 5)
                after = await messages_on(stream)
            assert sorted(acks.sequences) == list(range(1, 16))
            assert acks.duplicates == set()
            assert sorted(before + after) == sorted(zip(acks.sequences, messages, strict=True))
            assert set(waits) == {"the stream is full; waiting for the consumer to make room"}

    asyncio.run(check())


def publish_error(address, messages, *, settings=None, on_wait=lambda _: None):
    """Return the error message of publishing, which must fail long before the patience ends."""

    async def attempt():
        async with connect(address, on_wait=on_wait) as stream:
            config = StreamConfig(name=address.stream, subjects=["playback.>"], **(settings or {}))
            await stream.context.add_stream(config)
            async with open_publisher(stream) as publisher:
                await publisher.publish(messages)

    began = time.monotonic()
    with pytest.raises(StreamError) as caught:
        asyncio.run(attempt())
    assert time.monotonic() - began < 30
    assert "\n" not in caught.value.message
    assert address.stream in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_message_over_the_stream_limit_fails_immediately(address):
    messages = [outgoing(1), outgoing(2, payload=b"x" * 2000), outgoing(3)]
    message = publish_error(address, messages, settings={"max_msg_size": 1000})
    assert message.endswith("refused a message: message size exceeds maximum allowed")


def test_a_message_over_the_server_limit_fails_immediately(address):
    messages = [outgoing(1), outgoing(2, payload=b"x" * (8 * 2**20 + 1))]
    assert "8388608" in publish_error(address, messages)


def test_a_message_with_headers_may_be_as_large_as_the_server_limit(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            room = stream.client.max_payload - len(header_block(outgoing(1).headers))
            fitting = outgoing(1, payload=b"x" * room)
            assert (await publisher.publish([fitting])).sequences == [1]
            with pytest.raises(StreamError, match="exceed the server's"):
                await publisher.publish([outgoing(2, payload=b"x" * (room + 1))])

    asyncio.run(check())


def test_a_sealed_stream_fails_immediately(address):
    async def seal():
        async with connect(address) as stream:
            config = StreamConfig(name=address.stream, subjects=["playback.>"])
            await stream.context.add_stream(config)
            sealed = replace(config, sealed=True)
            await stream.context.update_stream(sealed)
            async with open_publisher(stream) as publisher:
                await asyncio.wait_for(publisher.publish([outgoing(1)]), 4)

    with pytest.raises(StreamError, match="refused a message"):
        asyncio.run(seal())


def test_a_stream_that_stays_full_times_out_with_the_number_of_unacknowledged_messages(address):
    settings = {"max_msgs": 3, "discard": DiscardPolicy.NEW}
    message = publish_error(
        replace(address, patience_seconds=0.3), [outgoing(n) for n in range(8)], settings=settings
    )
    assert "did not acknowledge 5 messages" in message


def test_publishing_to_a_subject_without_a_stream_waits_and_times_out(address):
    waits = []
    impatient = replace(address, patience_seconds=0.3)
    messages = [outgoing(1)._replace(subject="elsewhere.test")]
    message = publish_error(impatient, messages, on_wait=waits.append)
    assert "did not acknowledge 1 messages" in message
    assert set(waits) == {"no stream captures the subjects of the import; waiting"}


def test_a_missing_publish_permission_is_reported(address, tmp_path, monkeypatch):
    acks_time_out_after(monkeypatch, 0.3)
    user = 'user: "u", password: "p", permissions: { publish: { deny: ["playback.>"] } }'
    config = f'authorization {{ users: [ {{ {user} }} ] }}\njetstream {{ store_dir: "{tmp_path}" }}'
    with nats_server(tmp_path, config) as url:
        here = replace(address, url=url, user="u", password="p")
        message = publish_error(here, [outgoing(1)])
    assert "permissions violation" in message.lower()
