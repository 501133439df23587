"""Connections to the stream server, with automatic reconnects."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from anyio.from_thread import BlockingPortal, start_blocking_portal
from nats.errors import Error as NatsError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.login import connection_hint, login_options, make_client, refusal
from tautulli_pipeline.stream.patience import unless

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_SECONDS: Final = 5.0
# The embedded server was there, so if it was killed since, another one is being started.
_EMBEDDED_TIMEOUT_SECONDS: Final = 20.0
_CLOSE_TIMEOUT_SECONDS: Final = 3.0
# The client drops an unresponsive server after three unanswered pings.
_PING_SECONDS: Final = 5
_FLUSH_SECONDS: Final = 1.0
_MAX_REMEMBERED_ERRORS: Final = 10


@asynccontextmanager
async def connect(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> AsyncIterator[JetStream]:
    """Connect to the server and reconnect as needed while the context is open.

    Args:
        address: the server, the stream and the durable consumer.
        on_wait: called with the reason for each wait; may raise to abort it.

    Raises:
        ConfigurationError: the address, the login or a file is not usable.
        StreamError: the server is unreachable or refuses the login.
    """
    options = login_options(address)
    client = make_client(options)
    stream = JetStream(client, address, on_wait=on_wait)
    errors: deque[Exception] = deque(maxlen=_MAX_REMEMBERED_ERRORS)
    refused = asyncio.Event()

    async def lost() -> None:
        if not client.is_closed:
            _log.warning("lost the connection to %s", address.shown_url)
            stream.end_waits()

    async def regained() -> None:
        _log.warning("connected to %s again", address.shown_url)

    async def remember(error: Exception) -> None:
        _log.debug("error of the stream server or its connection: %r", error)
        errors.append(error)
        if "permissions violation" in str(error).lower():
            stream.deny(str(error))
        elif len(errors) >= len(options["servers"]) and refusal(errors):
            refused.set()

    connecting = client.connect(
        **options,
        name="tautulli-pipeline",
        max_reconnect_attempts=-1,
        # Subjects consist of validated tokens and of strings that the server sent.
        skip_subject_validation=True,
        reconnect_time_wait=1,
        ping_interval=_PING_SECONDS,
        # Without it, a publish may hang forever if the connection breaks.
        flush_timeout=_FLUSH_SECONDS,
        error_cb=remember,
        disconnected_cb=lost,
        reconnected_cb=regained,
    )
    try:
        # Unlimited reconnects also make the first attempt unlimited, so it needs a timeout.
        timeout = _EMBEDDED_TIMEOUT_SECONDS if address.private else _CONNECT_TIMEOUT_SECONDS
        await unless(refused, connecting, timeout_seconds=timeout)
    except (NatsError, OSError, ValueError) as error:
        await client.close()
        cause = refusal(errors) or str(error) or _cause(errors)
        raise StreamError(
            f"cannot reach the stream server at {address.shown_url}: {cause}",
            hint=connection_hint(address, cause),
        ) from error
    except asyncio.CancelledError:
        await client.close()
        raise
    try:
        yield stream
    finally:
        # Closing flushes, which fails if the server is unreachable.
        with suppress(OSError, NatsError):
            await asyncio.wait_for(client.close(), _CLOSE_TIMEOUT_SECONDS)


@contextmanager
def connect_blocking(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> Iterator[tuple[BlockingPortal, JetStream]]:
    """Like `connect`, for synchronous code; runs the event loop in a separate thread."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(connect(address, on_wait=on_wait)) as stream,
    ):
        yield portal, stream


def _cause(errors: Iterable[Exception]) -> str:
    """Return the last error from the server, or else the last network error."""
    relevant: list[Exception] = [error for error in errors if isinstance(error, NatsError)]
    relevant = relevant or list(errors)
    return (str(relevant[-1]) if relevant else "") or "no answer"
