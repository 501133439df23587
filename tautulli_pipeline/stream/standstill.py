"""Checks whether a stream that refuses messages will accept them later."""

from __future__ import annotations

import time
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StreamConfig

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import JetStream, unconsumed
from tautulli_pipeline.stream.limits import sizes_of

_GRACE_SECONDS: Final = 5.0
# Only the consumer of the import can end these waits.
FOR_CONSUMER: Final = "waiting for the consumer to make room"
_FULL: Final = f"the stream is full; {FOR_CONSUMER}"
_FULL_FOR_OTHERS: Final = (
    "the stream is full of messages that other consumers have not acked; waiting"
)


class Standstill:
    """Checks a stream repeatedly while it refuses messages."""

    def __init__(self, stream: JetStream) -> None:
        self._stream = stream
        self._full_since: float | None = None

    async def check_room(self) -> str:
        """Return the reason to wait for room on a full stream.

        Raises:
            StreamError: the stream will not get room, because it keeps consumed messages,
                or it is gone.
        """
        try:
            info = await self._stream.require_stream()
            consumed = not unconsumed(await self._stream.consumer_info())
        except (NatsError, TimeoutError):
            return _FULL
        keeps_consumed = info.config.retention == RetentionPolicy.LIMITS
        if not (consumed and keeps_consumed and not info.config.max_age):
            self._full_since = None
        elif self._full_since is None:
            self._full_since = time.monotonic()
        elif time.monotonic() > self._full_since + _GRACE_SECONDS:
            raise _permanently_full(info.config)
        return _FULL_FOR_OTHERS if consumed and not keeps_consumed else _FULL


def _permanently_full(config: StreamConfig) -> StreamError:
    limits = ", ".join(f"{name} {size}" for name, size in sizes_of(config).items())
    return StreamError(
        f"stream {config.name} is full ({limits}) and keeps consumed messages (limits retention)",
        hint="purge it, raise its limits or set another NATS_STREAM, then import again to resume",
    )
