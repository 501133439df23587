"""The durable pull consumer: pulls batches of messages and acks them after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import orjson
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.takeover import redeliver_unacked
from tautulli_pipeline.stream.wire import Frame

_GRACE_SECONDS: Final = 2.0
_ACK: Final = b"+ACK"
# Statuses of a pull that will never be answered.
_NO_RESPONDERS: Final = b"503"
_DELETED: Final = b"Consumer Deleted"
_TOO_LARGE: Final = b"Message Size Exceeds MaxBytes"
_PAUSE_SECONDS: Final = 0.25
_FLUSH_SECONDS: Final = 5


class Delivered(NamedTuple):
    """A delivered message: `sequence` is its stream sequence, `header` the raw header block."""

    sequence: int
    subject: str
    header: bytes
    payload: bytes
    reply: str


class DurableConsumer:
    """Pulls batches of messages; a message stays on the stream until it is acked."""

    def __init__(self, stream: JetStream, inbox: str) -> None:
        self._stream = stream
        self._client = stream.client
        self._inbox = inbox
        self._arrived: list[Delivered] = []
        self._enough = asyncio.Event()
        self._wanted = 0
        self._last_wanted_sequence: int | None = None
        self._is_consumer_gone = False
        self._is_next_too_large = False
        self._reconnects = stream.client.stats["reconnects"]
        address = stream.address
        self._pull_subject = f"$JS.API.CONSUMER.MSG.NEXT.{address.stream}.{address.durable_name}"

    def receive(self, frame: Frame) -> None:
        """Handle a message, or the server's notice that a pull has ended."""
        if not frame.reply.startswith(b"$JS.ACK."):
            self._is_consumer_gone = _reports_missing_consumer(frame)
            self._is_next_too_large = _TOO_LARGE in frame.header and not self._arrived
            self._enough.set()
            return
        delivered = _delivered(frame)
        self._arrived.append(delivered)
        if len(self._arrived) >= self._wanted or delivered.sequence == self._last_wanted_sequence:
            self._enough.set()

    async def pull(
        self,
        max_messages: int,
        *,
        max_bytes: int,
        linger_seconds: float,
        last_wanted_sequence: int | None = None,
    ) -> list[Delivered]:
        """Return one batch; [] if no messages arrived.

        Args:
            max_messages: the maximum batch size, not counting late deliveries of an
                earlier pull.
            max_bytes: the server ends the batch before it reaches this size. A message that
                exceeds it is pulled alone.
            linger_seconds: how long to wait for the batch to fill.
            last_wanted_sequence: return as soon as this message arrives.

        Raises:
            StreamError: the stream is gone, or the server closed the connection.
        """
        if self._is_consumer_gone:
            await self._ensure_consumer()
        if self._reconnects != self._client.stats["reconnects"]:
            self._reconnects = self._client.stats["reconnects"]
            await redeliver_unacked(self._stream)
        if len(self._arrived) < max_messages:
            self._enough.clear()
        self._wanted = max_messages
        self._last_wanted_sequence = last_wanted_sequence
        request = {"expires": int(linger_seconds * 1e9)}
        if self._is_next_too_large:
            self._is_next_too_large, request["batch"] = False, 1
        else:
            request |= {"batch": max_messages, "max_bytes": max_bytes}
        try:
            await self._client.publish(self._pull_subject, orjson.dumps(request), reply=self._inbox)
        except OutboundBufferLimitError:
            pass  # the server is unreachable; `pending` waits for it
        except ConnectionClosedError as error:
            raise self._stream.request_error("pull from", error) from error
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), linger_seconds + _GRACE_SECONDS)
        batch, self._arrived = self._arrived, []
        return batch

    async def _ensure_consumer(self) -> None:
        """Check that the stream exists, and recreate the consumer if it was deleted."""
        self._is_consumer_gone = False
        await self._stream.last_sequence()
        await self._stream.ensure_consumer()
        await asyncio.sleep(_PAUSE_SECONDS)

    def expect(self, last_sequence: int) -> None:
        """End the current pull as soon as this message arrives, or at once if it has."""
        self._last_wanted_sequence = last_sequence
        if self._arrived and self._arrived[-1].sequence >= last_sequence:
            self._enough.set()

    def abandon_pull(self) -> None:
        """End the current pull; undelivered messages stay on the stream."""
        self._enough.set()

    async def ack(self, messages: Sequence[Delivered]) -> None:
        """Ack committed messages and wait until the server has received the acks.

        Raises:
            StreamError: the server stays unreachable.
        """

        async def acknowledge() -> None:
            for message in messages:
                await self._client.publish(message.reply, _ACK)
            # A server that was lost in between never answers.
            await self._client.flush(_FLUSH_SECONDS)

        await self._stream.retry("acknowledge messages of", acknowledge)

    async def pending(self) -> tuple[int, int, int]:
        """Return (undelivered, unacked, sequence up to which all messages are acked).

        Raises:
            StreamError: the server stays unreachable, or the stream is gone.
        """
        info = await self._stream.ensure_consumer()
        return info["num_pending"], info["num_ack_pending"], info["ack_floor"]["stream_seq"]


def _reports_missing_consumer(frame: Frame) -> bool:
    # NATS/1.0 status description
    _, status, description = (*frame.header.split(b"\r\n")[0].split(b" ", 2), b"", b"")[:3]
    return status == _NO_RESPONDERS or description == _DELETED


def _delivered(frame: Frame) -> Delivered:
    # $JS.ACK[.domain.account].stream.consumer.deliveries.sequence.delivery.time.pending[.token]
    reply = frame.reply.decode()
    tokens = reply.split(".")
    sequence = int(tokens[5] if len(tokens) == 9 else tokens[7])  # noqa: PLR2004 - the two forms of the subject
    subject = frame.subject.decode(errors="replace")
    return Delivered(sequence, subject, frame.header, frame.payload, reply)


@asynccontextmanager
async def open_consumer(stream: JetStream) -> AsyncIterator[DurableConsumer]:
    """Open the durable consumer with a subscription for its deliveries."""
    inbox = stream.client.new_inbox()
    consumer = DurableConsumer(stream, inbox)
    async with stream.client.subscribed(inbox, consumer.receive):
        try:
            yield consumer
        finally:
            consumer.abandon_pull()
