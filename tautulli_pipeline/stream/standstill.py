"""Why nothing goes on, and whether waiting helps."""

from __future__ import annotations

import time
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StreamInfo
from nats.js.errors import APIError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import JetStream

_GRACE_SECONDS: Final = 5.0


class Standstill:
    """Looks at a stream that refuses messages, again and again while it does."""

    def __init__(self, stream: JetStream) -> None:
        self._stream = stream
        self._full_since: float | None = None

    async def look(self, *, full: bool) -> None:
        """See that waiting may help.

        Args:
            full: whether the stream refused for want of room.

        Raises:
            StreamError: the stream is gone, or full of what it keeps for good.
        """
        try:
            info = await self._stream.see_stream()
            stuck = full and _keeps(info) and await self._all_is_consumed()
        except (NatsError, APIError, TimeoutError):
            return  # the server is away or has only begun to start
        now = time.monotonic()
        if not stuck:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now > self._full_since + _GRACE_SECONDS:
            raise _full_for_good(info)

    async def _all_is_consumed(self) -> bool:
        consumer = await self._stream.consumer_info()
        return not (consumer.num_pending or consumer.num_ack_pending)


def _keeps(info: StreamInfo) -> bool:
    """Whether what is consumed stays on the stream, and nothing else makes room."""
    return info.config.retention == RetentionPolicy.LIMITS and not info.config.max_age


def _full_for_good(info: StreamInfo) -> StreamError:
    config = info.config
    sizes = {
        "max_msgs": config.max_msgs,
        "max_bytes": config.max_bytes,
        "max_msgs_per_subject": config.max_msgs_per_subject,
    }
    limits = ", ".join(f"{name} {size}" for name, size in sizes.items() if size and size > 0)
    return StreamError(
        f"stream {config.name} is full ({limits}) and keeps what is consumed (limits retention)",
        hint="purge it or raise its limit, then import again to resume; or set NATS_STREAM",
    )
