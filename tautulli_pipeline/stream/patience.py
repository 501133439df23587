"""Waiting for a server that is away: for so long and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
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
_PAUSE_SECONDS: Final = 0.5

Answer = TypeVar("Answer")


async def ask_patiently(
    request: Callable[[], Awaitable[Answer]],
    *,
    on_wait: Callable[[str], None],
    give_up_after_seconds: float,
    pause_seconds: float = _PAUSE_SECONDS,
) -> Answer:
    """Repeat a request while the server is away.

    Args:
        request: safe to repeat.
        on_wait: hears why it waits, and may raise to end that.
        give_up_after_seconds: then the last fault is raised.
        pause_seconds: how long to wait between two attempts.
    """
    deadline = time.monotonic() + give_up_after_seconds
    while True:
        try:
            return await request()
        except PASSING:
            if time.monotonic() > deadline:
                raise
        on_wait(AWAY)
        await asyncio.sleep(pause_seconds)


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
