import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tautulli_pipeline.stream import consumer as consumer_module
from tautulli_pipeline.stream.consumer import DurableConsumer, open_consumer
from tautulli_pipeline.stream.jetstream import ACK_WAIT_SECONDS
from tautulli_pipeline.stream.publisher import open_publisher
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline.stream.session import open_consuming, open_publishing
from tautulli_pipeline.stream.takeover import redeliver_unacked
from tautulli_pipeline.stream.wire import Frame, header_block
from tautulli_pipeline_tests.stream.servers import (
    address_on,
    eventually,
    outgoing,
    prepared,
    until_empty,
)

LARGE = 2**25


async def publish(stream, *numbers, payload=b""):
    async with open_publisher(stream) as publisher:
        await publisher.publish([outgoing(n, payload=payload) for n in numbers])


def pull(consumer, max_messages=100, *, max_bytes=LARGE, linger_seconds=0.2, last=None):
    return consumer.pull(
        max_messages,
        max_bytes=max_bytes,
        linger_seconds=linger_seconds,
        last_wanted_sequence=last,
    )


def sequences(batch):
    return [message.sequence for message in batch]


def test_messages_are_delivered_complete_and_in_order(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            await publish(stream, *range(250))
            batch = await pull(consumer, 250)
        assert sequences(batch) == list(range(1, 251))
        assert [(m.subject, m.payload, m.header) for m in batch] == [
            (sent.subject, sent.payload, header_block(sent.headers))
            for sent in map(outgoing, range(250))
        ]

    asyncio.run(check())


def test_an_empty_stream_returns_an_empty_batch_after_the_linger(address, monkeypatch):
    monkeypatch.setattr(consumer_module, "_GRACE_SECONDS", 60)

    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            began = time.monotonic()
            assert await pull(consumer, linger_seconds=0.3) == []
            assert 0.2 < time.monotonic() - began < 30

    asyncio.run(check())


def test_a_batch_is_limited_by_messages_and_bytes(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            await publish(stream, *range(1, 31), payload=b"x" * 10_000)
            few = await pull(consumer, 10)
            small = await pull(consumer, 100, max_bytes=55_000)
            rest = await pull(consumer, 100)
        assert sequences(few) == list(range(1, 11))
        assert 1 <= len(small) <= 5
        assert sequences(few + small + rest) == list(range(1, 31))

    asyncio.run(check())


def test_a_message_larger_than_a_batch_is_pulled_alone(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            await publish(stream, 0)
            await publish(stream, 1, payload=bytes(50_000))
            await publish(stream, 2, 3)
            batches = [await pull(consumer, max_bytes=10_000) for _ in range(4)]
        assert [sequences(batch) for batch in batches if batch] == [[1], [2], [3, 4]]

    asyncio.run(check())


def test_a_full_batch_or_the_last_wanted_message_ends_the_pull(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            await publish(stream, *range(5))
            began = time.monotonic()
            assert sequences(await pull(consumer, 2, linger_seconds=60)) == [1, 2]
            rest = await pull(consumer, 100, linger_seconds=60, last=5)
            assert sequences(rest) == [3, 4, 5]
            assert time.monotonic() - began < 30

    asyncio.run(check())


def test_a_pull_ends_when_an_expected_message_arrives_or_has_arrived(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            waiting = asyncio.ensure_future(pull(consumer, linger_seconds=60))
            await publish(stream, 1)
            await eventually(lambda: consumer._arrived)
            assert not waiting.done()
            consumer.expect(2)
            await publish(stream, 2)
            assert sequences(await waiting) == [1, 2]
            waiting = asyncio.ensure_future(pull(consumer, linger_seconds=60))
            await publish(stream, 3)
            await eventually(lambda: consumer._arrived)
            consumer.expect(3)
            assert sequences(await waiting) == [3]

    asyncio.run(asyncio.wait_for(check(), 50))


def test_a_late_delivery_is_in_the_next_batch(address):
    async def check():
        held, late = [], True

        class Late(DurableConsumer):
            def receive(self, frame):
                if late:
                    held.append(frame)
                else:
                    super().receive(frame)

        async with prepared(address) as stream:
            consumer = Late(stream, inbox := stream.client.new_inbox())
            async with stream.client.subscribed(inbox, consumer.receive):
                await publish(stream, 1, 2)
                pulling = asyncio.create_task(pull(consumer))
                await eventually(lambda: len(held) >= 2)
                consumer.abandon_pull()
                assert await pulling == []
                late = False
                for frame in held:
                    consumer.receive(frame)
                await publish(stream, 3)
                assert sequences(await pull(consumer) + await pull(consumer)) == [1, 2, 3]

    asyncio.run(check())


def test_only_unacked_messages_are_redelivered_and_immediately(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            await publish(stream, *range(10))
            batch = await pull(consumer, 10)
            await consumer.ack([m for m in batch if m.sequence % 2])
            await eventually_pending(consumer, (0, 5, 1))
            assert await pull(consumer) == []
        began = time.monotonic()
        async with prepared(address) as stream:
            await redeliver_unacked(stream)
            async with open_consumer(stream) as consumer:
                again = await pull(consumer, linger_seconds=60, last=10)
                assert time.monotonic() - began < ACK_WAIT_SECONDS - 5
                assert sequences(again) == [2, 4, 6, 8, 10]
                assert [m.payload for m in again] == [outgoing(n).payload for n in (1, 3, 5, 7, 9)]
                await consumer.ack(again)
                await eventually_pending(consumer, (0, 0, 10))
                info = await stream.consumer_info()
                assert info["config"]["ack_wait"] == ACK_WAIT_SECONDS * 1e9

    asyncio.run(check())


async def eventually_pending(consumer, expected):
    async def is_pending():
        return await consumer.pending() == expected

    await eventually(is_pending)


def test_an_interest_stream_is_empty_once_all_messages_are_acked(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            await publish(stream, *range(10))
            await consumer.ack(await pull(consumer, 10))
            await eventually_pending(consumer, (0, 0, 10))
            await until_empty(stream)
            assert await stream.last_sequence() == 10

    asyncio.run(check())


def test_only_event_subjects_are_delivered(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            config = (await stream.context.stream_info(address.stream)).config
            await stream.context.update_stream(replace(config, subjects=["playback.>", "other"]))
            await stream.client.request("other", b"other")
            await publish(stream, 1)
            assert sequences(await pull(consumer)) == [2]

    asyncio.run(check())


def test_a_session_publishes_and_consumes_without_an_event_loop(address):
    with open_publishing(address) as publishing, open_consuming(address) as consuming:
        assert publishing.identity.startswith(f"{address.stream}@")
        assert publishing.identity == consuming.identity
        assert publishing.message_limit.bytes == 8 * 2**20
        futures = consuming.pull(3, max_bytes=LARGE, linger_seconds=5, last_wanted_sequence=None)
        acks = publishing.publish([outgoing(n) for n in range(3)]).result(5)
        batch = futures.result(5)
        assert sequences(batch) == acks.sequences == [1, 2, 3]
        assert publishing.last_sequence() == 3
        assert consuming.pending() == (0, 3, 0)
        consuming.ack(batch).result(5)


def test_a_session_gets_the_unacked_messages_of_the_previous_one(address):
    with open_publishing(address) as publishing:
        publishing.publish([outgoing(n) for n in range(4)]).result(5)
    for expected in ([1, 2, 3, 4], [2, 3, 4], []):
        with open_consuming(address) as session:
            batch = session.pull(
                10, max_bytes=LARGE, linger_seconds=0.3, last_wanted_sequence=4
            ).result(5)
            assert sequences(batch) == expected
            done = batch[:1] if len(batch) == 4 else batch
            session.ack(done).result(5)


def test_a_session_closes_immediately_during_a_pull(address):
    with open_consuming(address) as session:
        session.pull(10, max_bytes=LARGE, linger_seconds=60, last_wanted_sequence=None)
        time.sleep(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 30


def test_deliveries_that_were_lost_with_a_killed_server_come_again_within_seconds(tmp_path):
    """The ack wait would delay them by half a minute."""

    async def check(server):
        async with prepared(address_on(server)) as stream, open_consumer(stream) as consumer:
            await publish(stream, *range(10))
            assert len(await pull(consumer, 10)) == 10
            await asyncio.sleep(1)  # the server saves what it delivered
            announced = json.loads((tmp_path / "nats" / "server.json").read_text())
            os.kill(announced["server_pid"], signal.SIGKILL)
            await eventually(lambda: stream.client.stats["reconnects"])
            began = time.monotonic()
            again = []
            while len(again) < 10 and time.monotonic() < began + ACK_WAIT_SECONDS - 5:
                again += await pull(consumer, 10)
            assert sorted(sequences(again)) == list(range(1, 11))

    with embedded_server(tmp_path) as server:
        asyncio.run(check(server))


class Answering:
    """A fake stream and connection that answer each pull with the given frames."""

    address = SimpleNamespace(stream="S", durable_name="durable")

    def __init__(self, *frames):
        self.client = self
        self.stats = {"reconnects": 0}
        self.frames = frames
        self.consumer = DurableConsumer(self, "inbox")
        self.checks = 0

    async def publish(self, _subject, _request, *, reply):
        assert reply == "inbox"
        for frame in self.frames:
            self.consumer.receive(frame)

    async def last_sequence(self):
        self.checks += 1

    async def ensure_consumer(self):
        pass

    def pull(self, max_messages):
        """Return the batch; raise TimeoutError if the frames do not end the pull."""

        async def soon():
            return await asyncio.wait_for(pull(self.consumer, max_messages, linger_seconds=9), 0.4)

        return asyncio.run(soon())


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.ACK.S.durable.1.42.7.1700000000000000000.0",
        b"$JS.ACK.domain.account.S.durable.1.42.7.1700000000000000000.0",
        b"$JS.ACK._.account.S.durable.3.42.7.1700000000000000000.0.token",
    ],
)
def test_the_sequence_is_read_from_both_forms_of_the_reply_subject(reply):
    frame = Frame(b"playback.caf\xe9.movie", reply, b"NATS/1.0\r\n\r\n", b"{}")
    (message,) = Answering(frame).pull(1)
    assert (message.sequence, message.reply, message.payload) == (42, reply.decode(), b"{}")
    assert message.subject == "playback.caf\ufffd.movie"
    with pytest.raises(TimeoutError):
        Answering(frame).pull(2)


@pytest.mark.parametrize(
    ("status", "is_missing"),
    [
        (b"NATS/1.0 503\r\n\r\n", True),
        (b"NATS/1.0 409 Consumer Deleted\r\nNats-Pending-Messages: 1\r\n\r\n", True),
        (b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\n\r\n", False),
        (b"NATS/1.0 408 Request Timeout\r\n\r\n", False),
        (b"NATS/1.0 404 No Messages\r\n\r\n", False),
        (b"", False),
    ],
)
def test_a_status_ends_the_pull_and_some_statuses_trigger_a_consumer_check(status, is_missing):
    stream = Answering(Frame(b"inbox", b"", status, b""))
    assert stream.pull(100) == []
    assert stream.checks == 0
    assert stream.pull(100) == []
    assert stream.checks == is_missing


def test_a_consumer_deleted_during_a_pull_is_recreated_by_the_next_one(address):
    async def check():
        async with prepared(address) as stream, open_consumer(stream) as consumer:
            pulling = asyncio.create_task(pull(consumer, linger_seconds=20))
            await eventually_waiting(stream)
            await stream.context.delete_consumer(address.stream, address.durable_name)
            assert await asyncio.wait_for(pulling, 10) == []
            assert await pull(consumer) == []
            await publish(stream, 1)
            assert sequences(await pull(consumer, 1, linger_seconds=5)) == [1]

    asyncio.run(check())


async def eventually_waiting(stream):
    async def is_waiting():
        return (await stream.consumer_info())["num_waiting"]

    await eventually(is_waiting)
