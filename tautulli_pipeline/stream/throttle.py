"""Limits publishing to what a stream can hold without dropping its oldest messages."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from typing import Final

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import JetStream, unconsumed
from tautulli_pipeline.stream.publisher import Outgoing, PubAcks, Publisher
from tautulli_pipeline.stream.standstill import FOR_CONSUMER

_POLL_SECONDS: Final = 0.05
_REPORT_AFTER_SECONDS: Final = 5.0
# Subject, headers and the store's overhead for each message.
_OVERHEAD_BYTES: Final = 512


class Throttle:
    """Publishes in portions of half the stream's capacity.

    A portion is published once at most the previous portion is unconsumed, so a full stream
    never drops an unconsumed event.
    """

    def __init__(self, stream: JetStream, publisher: Publisher) -> None:
        self._stream = stream
        self._publisher = publisher
        self._published = 0

    async def publish(self, messages: Sequence[Outgoing]) -> PubAcks:
        """Publish like `Publisher.publish`.

        Raises:
            StreamError: publishing failed, or the consumer made no progress within
                `patience_seconds`.
        """
        acks = PubAcks([])
        for portion in self._portions(messages):
            await self._wait_for_room()
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

    async def _wait_for_room(self) -> None:
        """Wait until at most the last portion is unconsumed."""
        allowed = min(self._published, self._stream.limits.max_messages - 1)
        least, moved_at = math.inf, time.monotonic()
        while (left := unconsumed(await self._stream.ensure_consumer())) > allowed:
            if left < least:
                least, moved_at = left, time.monotonic()
            waited = time.monotonic() - moved_at
            if waited > self._stream.address.patience_seconds:
                raise self._timeout_error(left)
            if waited > _REPORT_AFTER_SECONDS:
                self._stream.on_wait(f"{FOR_CONSUMER} on the stream")
            await asyncio.sleep(_POLL_SECONDS)

    def _timeout_error(self, left: int) -> StreamError:
        address = self._stream.address
        return StreamError(
            f"stream {address.stream} has no room: {left} of its messages were not consumed "
            f"within {address.patience_seconds:.0f} s",
            hint="raise the stream's limits, then import again to resume",
        )
