"""Batched NATS frames in both directions.

nats-py connects, logs in, reconnects, parses and sends requests. Publishing a message with
nats-py costs as much as everything else that happens to the message, so this module writes
frames to the connection in batches. It also intercepts deliveries before nats-py creates an
object for each, which is slow and, on a subject that is not UTF-8, raises an error that stops
the reader. Only this module and `TlsClient` use nats-py's internals.
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
    """A raw delivery; `header` is the header block, b'' if there is none."""

    subject: bytes
    reply: bytes
    header: bytes
    payload: bytes


Sink = Callable[[Frame], None]


def header_block(headers: Mapping[str, str]) -> bytes:
    """Encode headers for the wire; names and values must not contain line breaks."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def header_values(blocks: Sequence[bytes], name: str) -> list[str | None]:
    """Return the header's value in each block, or None; replaces invalid bytes."""
    line = re.compile(rb"\r\n%b:[ \t]*([^\r\n]*?)[ \t]*\r\n" % re.escape(name.encode()))
    found = map(line.search, blocks)
    return [match[1].decode(errors="replace") if match else None for match in found]


def publish_frame(subject: str, reply: str, header: bytes, payload: Payload) -> Sequence[Payload]:
    """Return the parts of the frame that publishes one message."""
    sizes = f"HPUB {subject} {reply} {len(header)} {len(header) + len(payload)}\r\n"
    return sizes.encode(), header, payload, b"\r\n"


class WireClient(Client):
    """A client that sends batches of frames and passes raw deliveries to sinks."""

    def __init__(self) -> None:
        super().__init__()
        self._sinks: dict[int, Sink] = {}

    async def send(self, frames: bytes) -> None:
        """Write complete frames to the connection.

        Raises:
            OutboundBufferLimitError: the client is disconnected and its buffer is full.
            ConnectionClosedError: the connection is closed permanently.
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
        """Call `sink` with every delivery on `subject`, in order."""
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
