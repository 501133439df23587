"""Waiting for a server that is away: for so long and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from nats.errors import ConnectionReconnectingError, NoRespondersError, OutboundBufferLimitError
from nats.js.errors import ServiceUnavailableError

AWAY: Final = "the stream server is away; waiting for it to come back"
# Each may pass by itself: the server restarts, or the connection to it is made again.
PASSING: Final = (
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
    """The answer to `request`.

    Raises:
        TimeoutError: `event` was set or the time was over before.
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
