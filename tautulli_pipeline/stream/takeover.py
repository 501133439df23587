"""Taking over the durable consumer from a process or a server that died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import ACK_WAIT_SECONDS, JetStream

_log = logging.getLogger(__name__)

_TAKE_OVER: Final = "take over the consumer of"
_SHORT_ACK_WAIT_SECONDS: Final = 0.5
_NANOSECONDS: Final = 1_000_000_000
_POLL_SECONDS: Final = 0.1
_POLLS: Final = 10
# By then, the pulls of a killed process have ended.
_IGNORED_POLLS: Final = 4


async def require_sole_consumer(stream: JetStream) -> None:
    """Check that no other process uses the durable consumer.

    Raises:
        StreamError: another process does; each would get only part of the events.
    """
    delivered, is_shared = None, False
    for poll in range(_POLLS):
        now = await stream.ensure_consumer()
        moved = delivered is not None and now["delivered"] != delivered
        is_shared |= poll >= _IGNORED_POLLS and (bool(now["num_waiting"]) or moved)
        delivered = now["delivered"]
        await asyncio.sleep(_POLL_SECONDS)
    if is_shared:
        address = stream.address
        raise StreamError(
            f"another process consumes stream {address.stream} as {address.durable_name}",
            hint="set a different NATS_DURABLE_NAME for each data directory",
        )


async def redeliver_unacked(stream: JetStream) -> None:
    """Make the server redeliver immediately what a process that died left unacked.

    The same goes for messages that a server was sending when it died. The server redelivers
    only after the ack wait, so this shortens the ack wait briefly. If a process died while it
    was short, this restores it. Call it only from the one process that consumes.

    Raises:
        StreamError: the server refused the change, or stays unreachable.
    """

    async def configure(config: Mapping[str, Any]) -> None:
        await stream.retry(_TAKE_OVER, lambda: stream.configure_consumer(config))

    short = int(_SHORT_ACK_WAIT_SECONDS * _NANOSECONDS)
    info = await stream.retry(_TAKE_OVER, stream.find_or_create_consumer)
    config = info["config"]
    left_short = config.get("ack_wait") == short
    if info["num_ack_pending"]:
        _log.info("%d unacknowledged messages are redelivered", info["num_ack_pending"])
        await configure(config | {"ack_wait": short})
        await asyncio.sleep(2 * _SHORT_ACK_WAIT_SECONDS)
    if left_short:
        config = config | {"ack_wait": int(ACK_WAIT_SECONDS * _NANOSECONDS)}
    if left_short or info["num_ack_pending"]:
        await configure(config)
