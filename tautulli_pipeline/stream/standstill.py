"""Why nothing goes on, and whether waiting helps."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StreamInfo

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import JetStream, unconsumed
from tautulli_pipeline.stream.limits import sizes_of

_GRACE_SECONDS: Final = 5.0
FULL: Final = "the stream is full; waiting for the consumer to make room"
_FULL_FOR_OTHERS: Final = "the stream is full of what its other consumers have not taken; waiting"


class Standstill:
    """Looks at a stream that refuses messages, again and again while it does."""

    def __init__(self, stream: JetStream) -> None:
        self._stream = stream
        self._full_since: float | None = None

    async def look(self) -> None:
        """See that the stream is there still.

        Raises:
            StreamError: it is gone, or another one has its name.
        """
        with suppress(NatsError, TimeoutError):  # away, or has only begun to start
            await self._stream.see_stream()

    async def look_for_room(self) -> str:
        """See who may make room on a full stream; gives what is waited for.

        Raises:
            StreamError: nobody, for it is full of what it keeps for good; or it is gone.
        """
        try:
            info = await self._stream.see_stream()
            consumed = not unconsumed(await self._stream.consumer_info())
        except (NatsError, TimeoutError):
            return FULL
        if not (consumed and _keeps(info)):
            self._full_since = None
        elif self._full_since is None:
            self._full_since = time.monotonic()
        elif time.monotonic() > self._full_since + _GRACE_SECONDS:
            raise _full_for_good(info)
        others = consumed and info.config.retention != RetentionPolicy.LIMITS
        return _FULL_FOR_OTHERS if others else FULL


def _keeps(info: StreamInfo) -> bool:
    """Whether what is consumed stays on the stream, and nothing else makes room."""
    return info.config.retention == RetentionPolicy.LIMITS and not info.config.max_age


def _full_for_good(info: StreamInfo) -> StreamError:
    config = info.config
    limits = ", ".join(f"{name} {size}" for name, size in sizes_of(config).items())
    return StreamError(
        f"stream {config.name} is full ({limits}) and keeps what is consumed (limits retention)",
        hint="purge it or raise its limit, then import again to resume; or set NATS_STREAM",
    )
