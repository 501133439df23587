"""Publishing no more than a stream that drops its oldest messages holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import JetStream, unconsumed
from tautulli_pipeline.stream.publisher import Outgoing, PubAcks, Publisher

_POLL_SECONDS: Final = 0.05
_SAY_AFTER_SECONDS: Final = 5.0
# Subject, headers and what the store keeps with each message.
_OVERHEAD_BYTES: Final = 512
_UNKNOWN: Final = 2**62


class Throttle:
    """Publishes in portions of half of what the stream holds.

    A portion is published when no more than the one before it is left to consume, so
    nothing of ours is the oldest message of a stream that is full.
    """

    def __init__(self, stream: JetStream, publisher: Publisher) -> None:
        self._stream = stream
        self._publisher = publisher
        self._published = 0

    async def publish(self, messages: Sequence[Outgoing]) -> PubAcks:
        """See `Publisher.publish`.

        Raises:
            StreamError: or nothing was consumed for the whole time allowed.
        """
        acks = PubAcks([])
        for portion in self._portions(messages):
            await self._room()
            offset = len(acks.sequences)
            part = await self._publisher.publish(portion)
            acks.sequences.extend(part.sequences)
            acks.duplicates.update(offset + position for position in part.duplicates)
            self._published = len(portion)
        return acks

    def _portions(self, messages: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
        limits = self._stream.limits
        most, most_bytes = max(1, limits.max_messages // 2), limits.max_bytes // 2
        first, size = 0, 0
        for position, message in enumerate(messages):
            own = len(message.payload) + _OVERHEAD_BYTES
            if position > first and (position - first == most or size + own > most_bytes):
                yield messages[first:position]
                first, size = position, 0
            size += own
        if first < len(messages):
            yield messages[first:]

    async def _room(self) -> None:
        """Wait until at most the last portion is left to consume."""
        allowed = min(self._published, self._stream.limits.max_messages - 1)
        least, moved_at = _UNKNOWN, time.monotonic()
        while (left := unconsumed(await self._stream.patient_consumer_info())) > allowed:
            if left < least:
                least, moved_at = left, time.monotonic()
            waited = time.monotonic() - moved_at
            if waited > self._stream.address.patience_seconds:
                raise self._given_up(left)
            if waited > _SAY_AFTER_SECONDS:
                self._stream.on_wait("waiting for the consumer to make room on the stream")
            await asyncio.sleep(_POLL_SECONDS)

    def _given_up(self, left: int) -> StreamError:
        address = self._stream.address
        return StreamError(
            f"stream {address.stream} has no room: {left} messages on it were not consumed "
            f"within {address.patience_seconds:.0f} s",
            hint="raise the stream's limits, then import again to resume",
        )
