"""Waiting for an unreachable server: transient errors and cancellable requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from nats.errors import ConnectionReconnectingError, NoRespondersError, OutboundBufferLimitError
from nats.js.errors import ServiceUnavailableError

UNREACHABLE: Final = "the stream server is unreachable; waiting for it to come back"
# These errors go away once the server restarts or the client reconnects.
TRANSIENT: Final = (
    TimeoutError,
    NoRespondersError,
    ServiceUnavailableError,
    ConnectionReconnectingError,
    OutboundBufferLimitError,
    OSError,
)

Answer = TypeVar("Answer")


async def unless(
    event: asyncio.Event, request: Awaitable[Answer], *, timeout_seconds: float | None = None
) -> Answer:
    """Return the answer to `request`, unless `event` is set first.

    Raises:
        TimeoutError: `event` was set or the timeout expired before the answer.
    """
    asking, ended = asyncio.ensure_future(request), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait(
            {asking, ended}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if not asking.done():
            raise TimeoutError
        return await asking
    finally:
        asking.cancel()
        ended.cancel()
