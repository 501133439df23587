"""What arrives on a connection reaches its sink whole, however it is cut up on the way."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.wire import (
    Frame,
    Wire,
    header_block,
    header_values,
    publish_frame,
    reply_frame,
)
from tautulli_pipeline_tests.stream.servers import eventually, prepared

TOKENS = st.text("abcXYZ019-_$", min_size=1, max_size=12).map(str.encode)
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(b".".join)
BODIES = st.binary(max_size=60) | st.sampled_from([b"", b"\r\n", b"MSG a 1 0\r\n\r\n", b"PING\r\n"])
HEADERS = st.dictionaries(
    st.text("ABCdef-", min_size=1, max_size=8), st.text("é 😀:,x", max_size=8), max_size=3
)
FRAMES = st.builds(Frame, SUBJECTS, SUBJECTS | st.just(b""), HEADERS.map(header_block), BODIES)
OURS, THEIRS = 7, 8


def written(frame, sid):
    reply = b" " + frame.reply if frame.reply else b""
    total = len(frame.header) + len(frame.payload)
    sizes = b"%d %d" % (len(frame.header), total)
    return (
        b"HMSG %b %d%b %b\r\n" % (frame.subject, sid, reply, sizes)
        + frame.header
        + frame.payload
        + b"\r\n"
    )


def written_plain(frame, sid):
    reply = b" " + frame.reply if frame.reply else b""
    head = b"MSG %b %d%b %d\r\n" % (frame.subject, sid, reply, len(frame.payload))
    return head + frame.payload + b"\r\n"


def pieces_of(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


class Listener(Client):
    """A client that is not connected and notes what nats-py would have to do."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def _process_msg(self, sid, subject, reply, data, headers):
        assert sid == THEIRS
        self.told.append(Frame(subject, reply, headers or b"", data))

    async def _process_ping(self):
        self.told.append("ping")

    async def _process_err(self, err_msg):
        self.told.append(err_msg)
        self._ps.reset()


def parsed(data, cuts):
    client, heard = Listener(), []
    Wire(client)._parser.sinks[OURS] = heard.append

    async def feed():
        for piece in pieces_of(data, cuts):
            await client._ps.parse(piece)

    asyncio.run(feed())
    return heard, client.told


@given(
    st.lists(st.tuples(FRAMES, st.sampled_from([OURS, THEIRS]), st.booleans()), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_deliveries_are_told_apart_and_whole_wherever_they_are_cut(deliveries, cuts):
    ours, theirs, data = [], [], b""
    for frame, sid, plain in deliveries:
        kept = frame._replace(header=b"") if plain else frame
        (ours if sid == OURS else theirs).append(kept)
        data += (written_plain if plain else written)(kept, sid)
        data += b"PING\r\n"
        theirs.append("ping")
    assert parsed(data, cuts) == (ours, theirs)


def test_what_follows_the_end_of_a_connection_is_not_taken_for_the_next_one():
    frame = Frame(b"playback.a", b"reply", b"", b"body")
    data = b"-ERR 'Stale Connection'\r\n" + written_plain(frame, OURS) + b"MSG cut"
    client, heard = Listener(), []
    Wire(client)._parser.sinks[OURS] = heard.append

    async def feed():
        await client._ps.parse(data)
        await client._ps.parse(written_plain(frame, OURS))

    asyncio.run(feed())
    assert (heard, client.told) == ([frame], ["'stale connection'"])


@given(st.lists(st.dictionaries(st.text("ABCdef-", min_size=1), st.text("é😀x:,"))))
def test_headers_are_read_as_they_were_written(several):
    blocks = [header_block(headers) for headers in several]
    for name in {name for headers in several for name in headers}:
        assert header_values(blocks, name) == [headers.get(name) for headers in several]


def test_headers_of_other_producers_need_no_blank_and_no_encoding():
    block = b"NATS/1.0\r\nNats-Msg-Id:a:b\r\nOdd:\t\xff \r\nno colon\r\n\r\n"
    blocks = [block, b"NATS/1.0 503\r\n\r\n", b""]
    assert header_values(blocks, "Nats-Msg-Id") == ["a:b", None, None]
    assert header_values(blocks, "Odd") == ["�", None, None]
    assert header_values(blocks, "colon") == header_values(blocks, "Msg-Id") == [None] * 3


def test_a_megabyte_in_one_message_is_delivered_whole_and_requests_still_work(address):
    async def check():
        async with prepared(address) as stream:
            heard = []
            body = b"x\r\n" * 400_000
            async with stream.wire.subscribed("elsewhere.>", heard.append):
                for _ in range(3):
                    await stream.client.publish("elsewhere.a", body, headers={"A": "b"})
                await stream.client.flush()
                assert await stream.last_sequence() == 0
            assert [(f.subject, f.payload, f.header) for f in heard] == [
                (b"elsewhere.a", body, header_block({"A": "b"}))
            ] * 3

    asyncio.run(check())


@given(SUBJECTS, SUBJECTS, HEADERS, BODIES)
def test_a_frame_to_publish_states_the_sizes_of_what_follows(subject, reply, headers, body):
    header = header_block(headers)
    frame = b"".join(publish_frame(subject.decode(), reply.decode(), header, memoryview(body)))
    line, _, rest = frame.partition(b"\r\n")
    verb, to, answer, header_size, size = line.split(b" ")
    assert (verb, to, answer) == (b"HPUB", subject, reply)
    assert (rest[: int(header_size)], rest[int(header_size) : int(size)]) == (header, body)
    assert rest[int(size) :] == b"\r\n"


@given(SUBJECTS, BODIES)
def test_a_reply_is_a_frame_without_headers(subject, body):
    line, _, rest = reply_frame(subject, body).partition(b"\r\n")
    assert line == b"PUB %b %d" % (subject, len(body))
    assert rest == body + b"\r\n"


def test_what_is_sent_arrives_until_the_subscription_is_left(address):
    async def check():
        async with connect(address) as stream:
            heard = []
            async with stream.wire.subscribed("elsewhere.>", heard.append):
                frames = [reply_frame(b"elsewhere.%d" % n, b"%d" % n) for n in range(5000)]
                await stream.wire.send(b"".join(frames))
                await eventually(lambda: len(heard) == 5000)
            await stream.wire.send(reply_frame(b"elsewhere.late", b"late"))
            await stream.client.flush()
            assert stream.wire._parser.sinks == {}
            assert [int(bytes(frame.payload)) for frame in heard] == list(range(5000))
        with pytest.raises(ConnectionClosedError):
            await stream.wire.send(b"PING\r\n")

    asyncio.run(check())


def test_without_a_connection_no_more_is_taken_than_may_wait():
    client = Client()
    client._max_pending_size = 100
    wire = Wire(client)

    async def check():
        with pytest.raises(OutboundBufferLimitError):
            await wire.send(b"x" * 101)

    asyncio.run(check())
