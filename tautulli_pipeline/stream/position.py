"""How far the durable consumer is, without making, changing or consuming anything."""

from __future__ import annotations

from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from tautulli_pipeline.stream.address import StreamAddress, StreamIdentity
from tautulli_pipeline.stream.connection import connect_blocking
from tautulli_pipeline.stream.jetstream import JetStream


@dataclass(frozen=True)
class ConsumerPosition:
    """Where the durable consumer is on its stream.

    Attributes:
        last_sequence: the newest message of the stream.
        acked_sequence: all up to it is acked.
        undelivered: messages that it has not got yet.
        unacked: messages that it got and has not acked.
    """

    stream_id: str
    last_sequence: int
    acked_sequence: int
    undelivered: int
    unacked: int


def read_position(address: StreamAddress) -> ConsumerPosition | None:
    """The consumer's position; None where there is no such stream or consumer yet.

    Raises:
        StreamError: the server cannot be reached or does not tell.
    """
    with connect_blocking(address) as (portal, stream):
        return portal.call(_position, stream)


async def _position(stream: JetStream) -> ConsumerPosition | None:
    try:
        info = await stream.context.stream_info(stream.address.stream)
        consumer = await stream.consumer_info()
    except NotFoundError:
        return None
    except (NatsError, TimeoutError) as error:
        raise stream.fault("see the consumer of", error) from error
    assert info.created is not None
    return ConsumerPosition(
        str(StreamIdentity(stream.address.stream, info.created)),
        int(info.state.last_seq),
        consumer["ack_floor"]["stream_seq"],
        consumer["num_pending"],
        consumer["num_ack_pending"],
    )
