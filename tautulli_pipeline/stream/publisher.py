"""Publishing with a bounded number of messages in flight and an ack for every message."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson
from nats.aio.client import DEFAULT_PENDING_SIZE
from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import Error as NatsError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.patience import UNREACHABLE, unless
from tautulli_pipeline.stream.standstill import Standstill
from tautulli_pipeline.stream.wire import Frame, Payload, header_block, publish_frame

_log = logging.getLogger(__name__)

MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"

# Frames are written to the connection in chunks of this size.
_FRAMES_BYTES: Final = 128 * 1024
_ACK_TIMEOUT_SECONDS: Final = 5.0
# The maximum number and size of unacknowledged messages.
_WINDOW_MESSAGES: Final = 4096
_WINDOW_BYTES: Final = 16 * 2**20
_PAUSE_SECONDS: Final = 0.5

_UNAVAILABLE: Final = 503
_NO_STREAM: Final = b'{"error": {"code": 503}}'
# JetStream error codes for "no room now": maximum messages, bytes, messages per subject,
# and server storage.
_NO_ROOM: Final = frozenset({10077, 10122, 10047, 10023})


class Outgoing(NamedTuple):
    """A message to publish; `headers` contain its `Nats-Msg-Id`."""

    subject: str
    payload: Payload
    headers: dict[str, str]


@dataclass
class PubAcks:
    """JetStream's answers, by position of the message in the batch.

    Attributes:
        sequences: stream sequence of each message; 0 while unanswered.
        duplicates: positions of messages that layer 1 dropped; their sequences are those of
            the originals.
    """

    sequences: list[int]
    duplicates: set[int] = field(default_factory=set)


@dataclass
class _Round:
    """The state of one `publish` call."""

    acks: PubAcks
    sizes: list[int]
    unanswered: set[int]
    refused: bool = False
    rejection: str = ""
    full: bool = False
    waiting_for: str = UNREACHABLE
    bytes_in_flight: int = 0
    in_flight: int = 0
    reconnects: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Publisher:
    """Publishes one batch at a time over one connection."""

    def __init__(self, stream: JetStream, inbox: str) -> None:
        self._stream = stream
        self._client = stream.client
        self._inbox = inbox
        self._patience_seconds = stream.address.patience_seconds
        self._standstill = Standstill(stream)
        self._rounds = 0
        self._round: _Round | None = None

    async def publish(self, messages: Sequence[Outgoing]) -> PubAcks:
        """Publish all `messages` and return once each one is acknowledged.

        Unanswered messages are sent again with the same `Nats-Msg-Id`, so a lost
        PubAck does not create a duplicate within the stream's duplicate window. If the
        stream is full, the call waits for room.

        Raises:
            StreamError: the server rejected a message permanently, or acknowledged none
                within `patience_seconds`.
        """
        self._rounds += 1
        state = _Round(
            acks=PubAcks([0] * len(messages)),
            sizes=[len(message.payload) for message in messages],
            unanswered=set(range(len(messages))),
        )
        self._round = state
        deadline = time.monotonic() + self._patience_seconds
        sending: Sequence[int] = range(len(messages))
        while state.unanswered:
            before = len(state.unanswered)
            state.reconnects = self._client.stats["reconnects"]
            await self._send(messages, sending, state)
            await self._await_answers(state)
            sending = await self._positions_to_resend(state)
            if len(state.unanswered) < before:
                deadline = time.monotonic() + self._patience_seconds
            elif time.monotonic() > deadline:
                raise self._timeout_error(state)
        return state.acks

    def receive(self, frame: Frame) -> None:
        """Handle one PubAck."""
        _, round_number, at = frame.subject.rsplit(b".", 2)
        state = self._round
        if state is None or int(round_number) != self._rounds:
            return
        index = int(at)
        if index not in state.unanswered:
            return
        # Without a stream for its subject, a message is answered with an empty payload.
        answer = orjson.loads(frame.payload or _NO_STREAM)
        if "error" in answer:
            state.refused = True
            error = answer["error"]
            state.full = error.get("err_code") in _NO_ROOM
            if not state.full and error.get("code") != _UNAVAILABLE:
                state.rejection = str(error.get("description") or error)
        else:
            state.unanswered.discard(index)
            state.acks.sequences[index] = answer["seq"]
            if answer.get("duplicate"):
                state.acks.duplicates.add(index)
        state.in_flight -= 1
        state.bytes_in_flight -= state.sizes[index]
        state.answered.set()

    async def _send(
        self, messages: Sequence[Outgoing], positions: Sequence[int], state: _Round
    ) -> None:
        inbox = f"{self._inbox}.{self._rounds}"
        frames: list[Payload] = []
        size = 0
        for index in positions:
            full = self._is_full(state)
            if full or size >= _FRAMES_BYTES:
                if not await self._put_on_wire(frames):
                    return
                size = 0
            if full and not await self._has_room(state):
                return
            subject, payload, headers = messages[index]
            header = header_block(headers)
            limit = self._client.max_payload
            if len(header) + len(payload) > limit:
                raise self._refused(
                    f"its {len(payload)} bytes exceed the server's limit of {limit}"
                )
            frames += publish_frame(subject, f"{inbox}.{index}", header, payload)
            state.in_flight += 1
            state.bytes_in_flight += state.sizes[index]
            size += len(payload)
        await self._put_on_wire(frames)

    async def _put_on_wire(self, frames: list[Payload]) -> bool:
        """Send the frames, and return False if the output buffer is full."""
        try:
            await self._client.send(b"".join(frames))
        except OutboundBufferLimitError:
            return False
        except ConnectionClosedError as error:
            raise self._stream.request_error("publish to", error) from error
        frames.clear()
        return self._client.pending_data_size <= DEFAULT_PENDING_SIZE

    def _is_full(self, state: _Round) -> bool:
        return state.in_flight >= _WINDOW_MESSAGES or state.bytes_in_flight >= _WINDOW_BYTES

    async def _has_room(self, state: _Round) -> bool:
        """Wait until more may be sent; False if the messages in flight are to be sent again."""
        while self._is_full(state):
            if not await self._wait_for_answer(state):
                return False
        return True

    async def _await_answers(self, state: _Round) -> None:
        while state.in_flight > 0 and not state.rejection:
            if not await self._wait_for_answer(state):
                break
        # The server does not answer messages that the account may not publish.
        rejection = state.rejection or (self._stream.denied if state.unanswered else "")
        if rejection:
            raise self._refused(rejection)

    async def _wait_for_answer(self, state: _Round) -> bool:
        """Wait for an answer; False if none arrives in time or the answers are lost."""
        # What was sent over an earlier connection is never answered.
        if self._client.stats["reconnects"] > state.reconnects:
            return False
        state.answered.clear()
        try:
            await unless(
                self._stream.unanswered,
                state.answered.wait(),
                timeout_seconds=_ACK_TIMEOUT_SECONDS,
            )
        except TimeoutError:
            return False
        return True

    async def _positions_to_resend(self, state: _Round) -> list[int]:
        """Return the unanswered positions, after a pause if the server is full or unreachable."""
        if not state.unanswered:
            return []
        state.waiting_for = await self._reason(state) if state.refused else UNREACHABLE
        unanswered = len(state.unanswered)
        _log.info("resending %d messages without PubAck: %s", unanswered, state.waiting_for)
        self._stream.on_wait(state.waiting_for)
        if state.refused or not self._client.is_connected:
            await asyncio.sleep(_PAUSE_SECONDS)
        state.refused = False
        state.in_flight = state.bytes_in_flight = 0
        return sorted(state.unanswered)

    async def _reason(self, state: _Round) -> str:
        if state.full:
            return await self._standstill.check_room()
        with suppress(NatsError, TimeoutError):  # unreachable or still starting
            await self._stream.require_stream()
        return "no stream captures the subjects of the import; waiting"

    def _refused(self, reason: str) -> StreamError:
        return StreamError(
            f"stream {self._stream.address.stream} refused a message: {reason}",
            hint="check the stream's configuration and the account's permissions",
        )

    def _timeout_error(self, state: _Round) -> StreamError:
        return StreamError(
            f"stream {self._stream.address.stream} at {self._stream.address.shown_url} did not "
            f"acknowledge {len(state.unanswered)} messages within "
            f"{self._patience_seconds:.0f} s: {state.waiting_for.partition(';')[0]}",
            hint="check that the server runs and its stream has room, then import again to resume",
        )


@asynccontextmanager
async def open_publisher(stream: JetStream) -> AsyncIterator[Publisher]:
    """Open a publisher with a subscription for its PubAcks."""
    inbox = stream.client.new_inbox()
    publisher = Publisher(stream, inbox)
    async with stream.client.subscribed(f"{inbox}.>", publisher.receive):
        yield publisher
