"""JetStream sessions for synchronous code; the event loop runs in a separate thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from anyio.from_thread import BlockingPortal
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.connection import connect, connect_blocking
from tautulli_pipeline.stream.consumer import Delivered, DurableConsumer, open_consumer
from tautulli_pipeline.stream.jetstream import JetStream, stream_id, unconsumed
from tautulli_pipeline.stream.limits import MessageLimit, message_limit
from tautulli_pipeline.stream.publisher import Outgoing, PubAcks, Publisher, open_publisher
from tautulli_pipeline.stream.takeover import redeliver_unacked, require_sole_consumer
from tautulli_pipeline.stream.throttle import Throttle

_Answer = TypeVar("_Answer")


@dataclass
class _Session:
    """A prepared stream with blocking methods."""

    _portal: BlockingPortal
    _stream: JetStream
    identity: str

    def last_sequence(self) -> int:
        """Return the sequence of the newest message."""
        return self._portal.call(self._stream.last_sequence)


@dataclass
class PublishingSession(_Session):
    """A publisher that returns futures."""

    _publisher: Publisher | Throttle

    @property
    def message_limit(self) -> MessageLimit:
        """The largest message that the stream takes."""
        return self._stream.message_limit

    def cause_of_loss(self) -> str:
        """See `JetStream.cause_of_loss`."""
        return self._portal.call(self._stream.cause_of_loss)

    def count_pending(self) -> int:
        """Count the messages that the consumer has not acked, delivered or not."""
        return unconsumed(self._portal.call(self._stream.ensure_consumer))

    def publish(self, messages: Sequence[Outgoing]) -> Future[PubAcks]:
        """Start publishing; at most one batch at a time. See `Publisher.publish`."""
        return self._portal.start_task_soon(self._publisher.publish, messages)


@dataclass
class ConsumingSession(_Session):
    """The durable consumer with blocking methods and futures."""

    _consumer: DurableConsumer

    @property
    def narrow(self) -> bool:
        """See `Limits.narrow`."""
        return self._stream.limits.narrow

    def pull(
        self,
        max_messages: int,
        *,
        max_bytes: int,
        linger_seconds: float,
        last_wanted_sequence: int | None,
    ) -> Future[list[Delivered]]:
        """Start pulling one batch. See `DurableConsumer.pull`."""
        pull = partial(
            self._consumer.pull,
            max_bytes=max_bytes,
            linger_seconds=linger_seconds,
            last_wanted_sequence=last_wanted_sequence,
        )
        return self._portal.start_task_soon(pull, max_messages)

    def expect(self, last_sequence: int) -> None:
        """See `DurableConsumer.expect`."""
        self._portal.call(self._consumer.expect, last_sequence)

    def ack(self, messages: Sequence[Delivered]) -> Future[None]:
        """Start acking committed messages."""
        return self._portal.start_task_soon(self._consumer.ack, messages)

    def pending(self) -> tuple[int, int, int]:
        """See `DurableConsumer.pending`."""
        return self._portal.call(self._consumer.pending)


def count_pending(address: StreamAddress) -> int:
    """Count unacked messages; create the stream and the consumer if they do not exist.

    Raises:
        StreamError: the server is unreachable, or its stream or consumer cannot be used.
    """
    with connect_blocking(address) as (portal, stream):
        portal.call(stream.prepare)
        return unconsumed(portal.call(stream.ensure_consumer))


def read_backlog(address: StreamAddress, within_seconds: float) -> tuple[str, int]:
    """Return the id of the stream and the number of unacked messages.

    Create the stream and the consumer if they do not exist.

    Raises:
        StreamError: the server is unreachable or does not answer in time, or its stream or
            consumer cannot be used.
    """

    async def ask(stream: JetStream) -> tuple[str, int]:
        identity = await stream.prepare()
        return identity, unconsumed(await stream.ensure_consumer())

    return _ask(address, ask, within_seconds)


def read_message_limit(address: StreamAddress, within_seconds: float) -> MessageLimit:
    """Return the largest message that a stream takes, without side effects.

    Raises:
        StreamError: the server is unreachable or does not answer in time.
    """

    async def ask(stream: JetStream) -> MessageLimit:
        try:
            info = await stream.context.stream_info(address.stream)
        except NotFoundError:
            return message_limit(stream.client.max_payload, None)
        except NatsError as error:
            raise stream.request_error("read", error) from error
        return message_limit(stream.client.max_payload, info.config)

    return _ask(address, ask, within_seconds)


def _ask(
    address: StreamAddress,
    question: Callable[[JetStream], Awaitable[_Answer]],
    within_seconds: float,
) -> _Answer:
    """Return the answer of a stream to one question."""

    async def ask() -> _Answer:
        async with connect(address) as stream:
            return await question(stream)

    try:
        return asyncio.run(asyncio.wait_for(ask(), within_seconds))
    except TimeoutError as error:
        raise StreamError(
            f"stream {address.stream} at {address.shown_url} did not answer "
            f"within {within_seconds:g} s"
        ) from error


@dataclass(frozen=True)
class ConsumerPosition:
    """The position of the durable consumer on its stream.

    Attributes:
        stream_id: identifies the stream, see `jetstream.stream_id`.
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
        info = await stream.ask(lambda: stream.context.stream_info(stream.address.stream))
        consumer = await stream.ask(stream.consumer_info)
    except NotFoundError:
        return None
    except (NatsError, TimeoutError) as error:
        raise stream.request_error("read the consumer of", error) from error
    return ConsumerPosition(
        stream_id(info),
        int(info.state.last_seq),
        consumer["ack_floor"]["stream_seq"],
        consumer["num_pending"],
        consumer["num_ack_pending"],
    )


@contextmanager
def open_publishing(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> Iterator[PublishingSession]:
    """Connect, find or create the stream and the consumer, and open a publisher.

    Raises:
        StreamError: the server is unreachable, or its stream or consumer cannot be used.
    """
    with connect_blocking(address, on_wait=on_wait) as (portal, stream):
        identity = portal.call(stream.prepare)
        if drops := stream.limits.drops:
            on_wait(
                f"stream {address.stream} may drop events before they are consumed ({drops}); "
                "dropped events are published again"
            )
        with portal.wrap_async_context_manager(open_publisher(stream)) as publisher:
            used = Throttle(stream, publisher) if stream.limits.drops_oldest else publisher
            yield PublishingSession(portal, stream, identity, used)


@contextmanager
def open_consuming(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> Iterator[ConsumingSession]:
    """Connect and take over the durable consumer, including its unacked messages.

    Raises:
        StreamError: the server is unreachable, or its stream or consumer cannot be used.
    """
    with connect_blocking(address, on_wait=on_wait) as (portal, stream):
        identity = portal.call(stream.prepare)
        if not address.private:
            portal.call(require_sole_consumer, stream)
        portal.call(redeliver_unacked, stream)
        with portal.wrap_async_context_manager(open_consumer(stream)) as consumer:
            yield ConsumingSession(portal, stream, identity, consumer)
