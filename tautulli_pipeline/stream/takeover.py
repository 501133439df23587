"""Becoming the one process that consumes, with all that the one before left behind."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from nats.errors import Error as NatsError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.jetstream import ACK_WAIT_SECONDS, JetStream

_log = logging.getLogger(__name__)

_SHORT_ACK_WAIT_SECONDS: Final = 0.5
_NANOSECONDS: Final = 1_000_000_000
_WATCH_EVERY_SECONDS: Final = 0.1
_WATCHES: Final = 10
# The pulls of a killed process have ended by then.
_FIRST_THAT_COUNTS: Final = 4


async def require_sole_consumer(stream: JetStream) -> None:
    """See that no other process consumes as we are about to.

    Raises:
        StreamError: one does; each of the two would get a part of the events.
    """
    delivered, at_work = None, False
    for watch in range(_WATCHES):
        now = await stream.patient_consumer_info()
        moved = delivered is not None and now["delivered"] != delivered
        at_work |= watch >= _FIRST_THAT_COUNTS and (bool(now["num_waiting"]) or moved)
        delivered = now["delivered"]
        await asyncio.sleep(_WATCH_EVERY_SECONDS)
    if at_work:
        address = stream.address
        raise StreamError(
            f"another process consumes stream {address.stream} as {address.durable_name}",
            hint="set NATS_DURABLE_NAME to a name of its own for each data directory",
        )


async def redeliver_unacked(stream: JetStream) -> None:
    """Have messages that a dead consumer left unacked redelivered at once.

    Only for the one process that consumes: the server would wait out the ack deadline
    first, so the deadline is shortened for a moment. One that died in that moment left
    it short.

    Raises:
        StreamError: the server does not do it.
    """
    short = int(_SHORT_ACK_WAIT_SECONDS * _NANOSECONDS)
    try:
        info = await stream.consumer()
        config = info["config"]
        left_short = config.get("ack_wait") == short
        if info["num_ack_pending"]:
            _log.info("%d unacknowledged messages are redelivered", info["num_ack_pending"])
            await stream.configure_consumer(config | {"ack_wait": short})
            await asyncio.sleep(2 * _SHORT_ACK_WAIT_SECONDS)
        if left_short:
            config = config | {"ack_wait": int(ACK_WAIT_SECONDS * _NANOSECONDS)}
        if left_short or info["num_ack_pending"]:
            await stream.configure_consumer(config)
    except (NatsError, TimeoutError) as error:
        raise stream.fault("take over the consumer of", error) from error
