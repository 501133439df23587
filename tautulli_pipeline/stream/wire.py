"""NATS frames by the batch, in both directions.

Connecting, logging in, reconnecting, parsing and requests are nats-py's. Its publishing
of one message costs as much as all the rest of that message's way, so frames are put on
its connection in batches. Deliveries are taken before it makes an object of each, which
is dearer and fails, ending all its reading, on a subject that is not UTF-8. Only here and
in `TlsClient` are its insides touched.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from nats.aio.client import DEFAULT_PENDING_SIZE, Client
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

Payload = bytes | memoryview


class Frame(NamedTuple):
    """One delivery as it came; `header` is its whole header block, b'' without one."""

    subject: bytes
    reply: bytes
    header: bytes
    payload: bytes


Sink = Callable[[Frame], None]


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire; names and values hold no line breaks."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def header_values(blocks: Sequence[bytes], name: str) -> list[str | None]:
    """The value of one header in each block, odd bytes replaced; None where it is not."""
    line = re.compile(rb"\r\n%b:[ \t]*([^\r\n]*?)[ \t]*\r\n" % re.escape(name.encode()))
    found = map(line.search, blocks)
    return [match[1].decode(errors="replace") if match else None for match in found]


def publish_frame(subject: str, reply: str, header: bytes, payload: Payload) -> Sequence[Payload]:
    """The parts of one message to publish, to be joined."""
    sizes = f"HPUB {subject} {reply} {len(header)} {len(header) + len(payload)}\r\n"
    return sizes.encode(), header, payload, b"\r\n"


class WireClient(Client):
    """A client that also takes frames by the batch and hands deliveries on as they came."""

    def __init__(self) -> None:
        super().__init__()
        self._sinks: dict[int, Sink] = {}

    async def send(self, frames: bytes) -> None:
        """Put whole frames on the connection and let it write.

        Raises:
            OutboundBufferLimitError: disconnected, and more is waiting than may.
            ConnectionClosedError: closed for good.
        """
        if self.is_closed:
            raise ConnectionClosedError
        if not self.is_connected and self.pending_data_size + len(frames) > DEFAULT_PENDING_SIZE:
            raise OutboundBufferLimitError
        await self._send_command(frames)
        await self._flush_pending()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def subscribed(self, subject: str, sink: Sink) -> AsyncIterator[None]:
        """Have `sink` called with every delivery on `subject`, in their order."""
        subscription = await self.subscribe(subject)
        self._sinks[subscription._id] = sink
        try:
            yield
        finally:
            if self.is_connected:
                await subscription.unsubscribe()
            del self._sinks[subscription._id]

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        if sink := self._sinks.get(sid):
            sink(Frame(subject, reply, headers or b"", data))
        else:
            await super()._process_msg(sid, subject, reply, data, headers)
