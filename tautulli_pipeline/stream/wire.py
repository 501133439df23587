"""NATS frames by the batch, in both directions.

Connecting, logging in, reconnecting and requests are nats-py's. Its calls for one
message each cost more than all the rest of a message's way, so what comes in
thousands is put on its connection as whole batches of frames and taken off it before
its own parser makes an object of each. This module alone touches its insides.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.protocol.parser import Parser

if TYPE_CHECKING:
    from nats.aio.client import Client

_CRLF: Final = b"\r\n"
_HEADER_VERSION: Final = "NATS/1.0\r\n"
_DELIVERIES: Final = frozenset({b"MSG", b"HMSG"})


Payload = bytes | memoryview


class Frame(NamedTuple):
    """One delivery as it came.

    Attributes:
        header: its whole header block, b'' without one.
        payload: a part of what arrived with it, not copied.
    """

    subject: bytes
    reply: bytes
    header: bytes
    payload: Payload


Sink = Callable[[Frame], None]


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire; names and values hold no line breaks."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{_HEADER_VERSION}{lines}\r\n".encode()


def header_values(blocks: Sequence[bytes], name: str) -> list[str | None]:
    """The value of one header in each block, odd bytes replaced; None where it is not."""
    line = re.compile(rb"\r\n%b:[ \t]*([^\r\n]*?)[ \t]*\r\n" % re.escape(name.encode()))
    found = map(line.search, blocks)
    return [match[1].decode(errors="replace") if match else None for match in found]


def publish_frame(subject: str, reply: str, header: bytes, payload: Payload) -> Sequence[Payload]:
    """The parts of one message to publish, to be joined."""
    sizes = f"HPUB {subject} {reply} {len(header)} {len(header) + len(payload)}\r\n"
    return sizes.encode(), header, payload, _CRLF


def reply_frame(reply: bytes, payload: bytes) -> bytes:
    """A short message to `reply`."""
    return b"PUB %b %d\r\n%b\r\n" % (reply, len(payload), payload)


class Wire:
    """The connection of a client, for batches of frames."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._parser = _DivertingParser(client)
        client._ps = self._parser

    async def send(self, frames: bytes) -> None:
        """Put whole frames on the connection and let it write.

        Raises:
            OutboundBufferLimitError: disconnected, and more is waiting than may.
            ConnectionClosedError: closed for good.
        """
        client = self._client
        if client.is_closed:
            raise ConnectionClosedError
        waiting = client.pending_data_size + len(frames)
        if not client.is_connected and waiting > client._max_pending_size:
            raise OutboundBufferLimitError
        await client._send_command(frames)
        if client._flush_queue is not None and client._flush_queue.empty():
            await client._flush_pending()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def subscribed(self, subject: str, sink: Sink) -> AsyncIterator[None]:
        """Have `sink` called with every delivery on `subject`, in their order."""
        subscription = await self._client.subscribe(subject)
        self._parser.sinks[subscription._id] = sink
        try:
            yield
        finally:
            if self._client.is_connected:
                await subscription.unsubscribe()
            del self._parser.sinks[subscription._id]


class _DivertingParser(Parser):
    """Hands deliveries of some subscriptions to their sinks and all else to nats-py."""

    def __init__(self, client: Client) -> None:
        self.sinks: dict[int, Sink] = {}
        self._connections = 0
        super().__init__(client)

    def reset(self) -> None:
        """Forget what is unfinished: another connection begins."""
        super().reset()
        self._connections += 1
        self._awaited_bytes = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take in what arrived; an unfinished frame waits for the rest of it."""
        self.buf += data
        if len(self.buf) < self._awaited_bytes:
            return
        connection, arrived = self._connections, bytes(self.buf)
        # nats-py's own parser, which reads the same buffer, gets one control line at a time.
        self.buf = bytearray()
        self._awaited_bytes = 0
        done = await self._take_frames(arrived)
        if connection == self._connections:
            self.buf = bytearray(memoryview(arrived)[done:])

    async def _take_frames(self, arrived: bytes) -> int:
        """Where the first unfinished frame begins."""
        at, connection = 0, self._connections
        while (line_end := arrived.find(_CRLF, at)) >= 0 and connection == self._connections:
            words = arrived[at:line_end].split()
            if not words or words[0] not in _DELIVERIES:
                await super().parse(arrived[at : line_end + 2])
                at = line_end + 2
                continue
            end = await self._take_delivery(arrived, line_end + 2, words)
            if end > len(arrived):
                self._awaited_bytes = end - at
                break
            at = end
        return at

    async def _take_delivery(self, arrived: bytes, begin: int, words: Sequence[bytes]) -> int:
        """Where the delivery ends whose body begins at `begin`, arrived or not."""
        # MSG subject sid [reply] size; HMSG subject sid [reply] header-size size
        sizes = 2 if words[0] == b"HMSG" else 1
        sid, end = int(words[2]), begin + int(words[-1])
        if len(arrived) < end + 2:
            return end + 2
        header_end = begin + int(words[-2]) if sizes == 2 else begin  # noqa: PLR2004 - see above
        reply = words[3] if len(words) > 3 + sizes else b""
        header = arrived[begin:header_end]
        sink = self.sinks.get(sid)
        if sink is None:
            payload = arrived[header_end:end]
            await self.nc._process_msg(sid, words[1], reply, payload, header or None)
        else:
            sink(Frame(words[1], reply, header, memoryview(arrived)[header_end:end]))
        return end + 2
