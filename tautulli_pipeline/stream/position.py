"""The position of the durable consumer, read without side effects."""

from __future__ import annotations

from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from tautulli_pipeline.stream.address import StreamAddress, StreamIdentity
from tautulli_pipeline.stream.connection import connect_blocking
from tautulli_pipeline.stream.jetstream import JetStream


@dataclass(frozen=True)
class ConsumerPosition:
    """The position of the durable consumer on its stream.

    Attributes:
        stream_id: the `StreamIdentity` of the stream as a string.
        last_sequence: sequence of the newest message.
        acked_sequence: all messages up to this sequence are acked.
        undelivered: number of messages not delivered yet.
        unacked: number of messages delivered but not acked.
    """

    stream_id: str
    last_sequence: int
    acked_sequence: int
    undelivered: int
    unacked: int


def read_position(address: StreamAddress) -> ConsumerPosition | None:
    """Return the consumer's position; None if the stream or the consumer does not exist.

    Raises:
        StreamError: the server is unreachable or does not answer.
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
        raise stream.request_error("read the consumer of", error) from error
    assert info.created is not None
    return ConsumerPosition(
        str(StreamIdentity(stream.address.stream, info.created)),
        int(info.state.last_seq),
        consumer["ack_floor"]["stream_seq"],
        consumer["num_pending"],
        consumer["num_ack_pending"],
    )
