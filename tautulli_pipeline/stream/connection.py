"""The connection to the stream server: made once, and made again for as long as it is used."""

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
from tautulli_pipeline.stream.login import login_options, make_client, refusal, remedy
from tautulli_pipeline.stream.patience import unless

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_CLOSE_TIMEOUT_SECONDS: Final = 3.0
# A server that neither answers nor hangs up is left after three of these.
_PING_SECONDS: Final = 5
_FLUSH_SECONDS: Final = 1.0
_REMEMBERED_FAULTS: Final = 10


@asynccontextmanager
async def connect(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> AsyncIterator[JetStream]:
    """Connect; reconnects by itself for as long as the context is open.

    Args:
        address: the server, the stream and the durable consumer.
        on_wait: called with the reason for each wait; may raise to end it.

    Raises:
        ConfigurationError: an address, a login or a file that cannot be used.
        StreamError: the server cannot be reached or does not let us in.
    """
    options = login_options(address)
    client = make_client(address)
    stream = JetStream(client, address, on_wait=on_wait)
    faults: deque[Exception] = deque(maxlen=_REMEMBERED_FAULTS)
    refused = asyncio.Event()

    async def lost() -> None:
        if not client.is_closed:
            _log.warning("lost the connection to %s", address.shown_url)

    async def regained() -> None:
        _log.warning("connected to %s again", address.shown_url)

    async def remember(error: Exception) -> None:
        _log.debug("the stream server or its connection: %r", error)
        faults.append(error)
        if "permissions violation" in str(error).lower():
            stream.deny(str(error))
        elif len(faults) >= len(options["servers"]) and refusal(faults):
            refused.set()

    connecting = client.connect(
        **options,
        name="tautulli-pipeline",
        max_reconnect_attempts=-1,
        # Subjects are made of checked tokens and of what the server itself sent.
        skip_subject_validation=True,
        reconnect_time_wait=1,
        ping_interval=_PING_SECONDS,
        # Without it, whoever publishes while the connection breaks may wait for ever.
        flush_timeout=_FLUSH_SECONDS,
        error_cb=remember,
        disconnected_cb=lost,
        reconnected_cb=regained,
    )
    try:
        # Unlimited reconnects also mean an unlimited first attempt.
        await unless(refused, connecting, timeout_seconds=_CONNECT_TIMEOUT_SECONDS)
    except (NatsError, OSError, ValueError) as error:
        await client.close()
        cause = refusal(faults) or str(error) or _cause(faults)
        raise StreamError(
            f"cannot reach the stream server at {address.shown_url}: {cause}",
            hint=remedy(address, cause),
        ) from error
    try:
        yield stream
    finally:
        # A server that is away does not take the last words either.
        with suppress(OSError, NatsError):
            await asyncio.wait_for(client.close(), _CLOSE_TIMEOUT_SECONDS)


@contextmanager
def connect_blocking(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> Iterator[tuple[BlockingPortal, JetStream]]:
    """`connect` for code without an event loop; the loop runs in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(connect(address, on_wait=on_wait)) as stream,
    ):
        yield portal, stream


def _cause(faults: Iterable[Exception]) -> str:
    """What the server said last or, where it said nothing, what the network did."""
    said: list[Exception] = [fault for fault in faults if isinstance(fault, NatsError)]
    said = said or list(faults)
    return (str(said[-1]) if said else "") or "no answer"
