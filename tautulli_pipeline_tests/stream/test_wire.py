"""Batched frames: parsing deliveries from any chunks, and sending."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import DEFAULT_PENDING_SIZE
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.wire import (
    Frame,
    WireClient,
    header_block,
    header_values,
    publish_frame,
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


def encoded(frame, sid):
    reply = b" " + frame.reply if frame.reply else b""
    total = len(frame.header) + len(frame.payload)
    sizes = b"%d %d" % (len(frame.header), total)
    return (
        b"HMSG %b %d%b %b\r\n" % (frame.subject, sid, reply, sizes)
        + frame.header
        + frame.payload
        + b"\r\n"
    )


def encoded_without_header(frame, sid):
    reply = b" " + frame.reply if frame.reply else b""
    head = b"MSG %b %d%b %d\r\n" % (frame.subject, sid, reply, len(frame.payload))
    return head + frame.payload + b"\r\n"


def plain(subject, body):
    return b"".join(publish_frame(subject, "", header_block({}), body))


def pieces_of(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


class Listener(WireClient):
    """An unconnected client that records the deliveries of both subscriptions."""

    def __init__(self):
        super().__init__()
        self.received, self.other = [], []
        self._sinks = {OURS: self.received.append, THEIRS: self.other.append}

    async def _process_ping(self):
        self.other.append("ping")

    async def _process_err(self, err_msg):
        self.other.append(err_msg)
        self._ps.reset()


def parsed(data, cuts):
    client = Listener()

    async def feed():
        for piece in pieces_of(data, cuts):
            await client._ps.parse(piece)

    asyncio.run(feed())
    return client.received, client.other


@given(
    st.lists(st.tuples(FRAMES, st.sampled_from([OURS, THEIRS]), st.booleans()), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_deliveries_are_parsed_completely_wherever_the_data_is_split(deliveries, cuts):
    ours, theirs, data = [], [], b""
    for frame, sid, plain in deliveries:
        kept = frame._replace(header=b"") if plain else frame
        (ours if sid == OURS else theirs).append(kept)
        data += (encoded_without_header if plain else encoded)(kept, sid)
        data += b"PING\r\n"
        theirs.append("ping")
    assert parsed(data, cuts) == (ours, theirs)


def test_leftover_data_does_not_leak_into_the_next_connection():
    frame = Frame(b"playback.a", b"reply", b"", b"body")
    data = b"-ERR 'Stale Connection'\r\n" + encoded_without_header(frame, OURS) + b"MSG cut"
    client = Listener()

    async def feed():
        await client._ps.parse(data)
        await client._ps.parse(encoded_without_header(frame, OURS))

    asyncio.run(feed())
    assert (client.received, client.other) == ([frame], ["'stale connection'"])


@given(st.lists(st.dictionaries(st.text("ABCdef-", min_size=1), st.text("é😀x:,"))))
def test_headers_round_trip(several):
    blocks = [header_block(headers) for headers in several]
    for name in {name for headers in several for name in headers}:
        assert header_values(blocks, name) == [headers.get(name) for headers in several]


def test_headers_may_lack_spaces_and_contain_invalid_utf8():
    block = b"NATS/1.0\r\nNats-Msg-Id:a:b\r\nOdd:\t\xff \r\nno colon\r\n\r\n"
    blocks = [block, b"NATS/1.0 503\r\n\r\n", b""]
    assert header_values(blocks, "Nats-Msg-Id") == ["a:b", None, None]
    assert header_values(blocks, "Odd") == ["�", None, None]
    assert header_values(blocks, "colon") == header_values(blocks, "Msg-Id") == [None] * 3


def test_a_message_over_one_megabyte_is_delivered_and_requests_still_work(address):
    async def check():
        async with prepared(address) as stream:
            received = []
            body = b"x\r\n" * 400_000
            async with stream.client.subscribed("elsewhere.>", received.append):
                for _ in range(3):
                    await stream.client.publish("elsewhere.a", body, headers={"A": "b"})
                await stream.client.flush()
                assert await stream.last_sequence() == 0
            assert [(f.subject, f.payload, f.header) for f in received] == [
                (b"elsewhere.a", body, header_block({"A": "b"}))
            ] * 3

    asyncio.run(check())


@given(SUBJECTS, SUBJECTS, HEADERS, BODIES)
def test_a_publish_frame_states_the_header_and_payload_sizes(subject, reply, headers, body):
    header = header_block(headers)
    frame = b"".join(publish_frame(subject.decode(), reply.decode(), header, memoryview(body)))
    line, _, rest = frame.partition(b"\r\n")
    verb, to, answer, header_size, size = line.split(b" ")
    assert (verb, to, answer) == (b"HPUB", subject, reply)
    assert (rest[: int(header_size)], rest[int(header_size) : int(size)]) == (header, body)
    assert rest[int(size) :] == b"\r\n"


@pytest.mark.parametrize(
    ("subject", "header"),
    [
        (b"elsewhere.caf\xe9", b""),
        (b"elsewhere.b", b"NATS/1.0 \xff\xfe\xff\r\n\r\n"),
        (b"elsewhere.b", b"\r\n\r\n"),
        (b"elsewhere.b", b"NATS/1.0\r\nA\xff: \xff\r\n\r\n"),
    ],
)
def test_invalid_bytes_from_other_producers_do_not_stop_the_reader(address, subject, header):
    odd = Frame(subject, b"", header, b"odd")
    good = Frame(b"elsewhere.good", b"", b"", b"good")

    async def check():
        async with connect(address) as stream:
            received = []
            async with stream.client.subscribed("elsewhere.>", received.append):
                sizes = b"%d %d" % (len(header), len(header) + 3)
                command = b"HPUB %b %b" % (subject, sizes) if header else b"PUB %b 3" % subject
                await stream.client.send(command + b"\r\n" + header + b"odd\r\n")
                await stream.client.publish("elsewhere.good", b"good")
                # The server may answer a flush before it delivers.
                await eventually(lambda: len(received) == 2)
            assert received == [odd, good]

    asyncio.run(check())


def test_frames_are_delivered_until_the_subscription_ends(address):
    async def check():
        async with connect(address) as stream:
            received = []
            async with stream.client.subscribed("elsewhere.>", received.append):
                frames = [plain(f"elsewhere.{n}", b"%d" % n) for n in range(5000)]
                await stream.client.send(b"".join(frames))
                await eventually(lambda: len(received) == 5000)
            await stream.client.send(plain("elsewhere.late", b"late"))
            await stream.client.flush()
            assert stream.client._sinks == {}
            assert [int(bytes(frame.payload)) for frame in received] == list(range(5000))
        with pytest.raises(ConnectionClosedError):
            await stream.client.send(b"PING\r\n")

    asyncio.run(check())


def test_without_a_connection_the_send_buffer_is_limited():
    client = WireClient()

    async def check():
        with pytest.raises(OutboundBufferLimitError):
            await client.send(b"x" * (DEFAULT_PENDING_SIZE + 1))

    asyncio.run(check())
