"""JetStream for code that is not asynchronous: one event loop in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal

from tautulli_pipeline.stream.address import StreamAddress, StreamIdentity
from tautulli_pipeline.stream.connection import connect_blocking
from tautulli_pipeline.stream.consumer import Delivered, DurableConsumer, open_consumer
from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.publisher import Outgoing, PubAcks, Publisher, open_publisher
from tautulli_pipeline.stream.takeover import reclaim_unacked, refuse_company
from tautulli_pipeline.stream.throttle import Throttle


class PublishingSession:
    """A publisher behind futures."""

    def __init__(
        self,
        portal: BlockingPortal,
        stream: JetStream,
        identity: StreamIdentity,
        publisher: Publisher | Throttle,
    ) -> None:
        self._portal = portal
        self._stream = stream
        self._publisher = publisher
        self.identity = identity
        self.max_payload_bytes = stream.max_payload_bytes
        self._publishing: Future[PubAcks] | None = None

    def publish(self, messages: Sequence[Outgoing]) -> Future[PubAcks]:
        """Start publishing; at most one batch at a time. See `Publisher.publish`."""
        self._publishing = self._portal.start_task_soon(self._publisher.publish, messages)
        return self._publishing

    def abandon(self) -> None:
        """Cancel the batch under way; whoever waits for it gets a `CancelledError`."""
        if self._publishing is not None:
            self._publishing.cancel()

    def last_sequence(self) -> int:
        """The newest message of the stream."""
        return self._portal.call(self._stream.last_sequence)


class ConsumingSession:
    """The durable consumer behind plain calls and futures."""

    def __init__(
        self,
        portal: BlockingPortal,
        stream: JetStream,
        identity: StreamIdentity,
        consumer: DurableConsumer,
    ) -> None:
        self._portal = portal
        self._stream = stream
        self._consumer = consumer
        self.identity = identity
        self.narrow = stream.limits.narrow

    def pull(
        self,
        max_messages: int,
        *,
        max_bytes: int,
        linger_seconds: float,
        last_wanted_sequence: int | None,
    ) -> Future[list[Delivered]]:
        """Start pulling one batch. See `DurableConsumer.pull`."""

        async def pull() -> list[Delivered]:
            return await self._consumer.pull(
                max_messages,
                max_bytes=max_bytes,
                linger_seconds=linger_seconds,
                last_wanted_sequence=last_wanted_sequence,
            )

        return self._portal.start_task_soon(pull)

    def ack(self, messages: Sequence[Delivered]) -> Future[None]:
        """Start acknowledging what is committed."""
        return self._portal.start_task_soon(self._consumer.ack, messages)

    def last_sequence(self) -> int:
        """The newest message of the stream."""
        return self._portal.call(self._stream.last_sequence)

    def pending(self) -> tuple[int, int, int]:
        """See `DurableConsumer.pending`."""
        return self._portal.call(self._consumer.pending)


def count_pending(address: StreamAddress) -> int:
    """Messages for the durable consumer; stream and consumer are made where they are not.

    Raises:
        StreamError: the server cannot be reached or does not take the work.
    """
    with connect_blocking(address) as (portal, stream):
        portal.call(stream.prepare)
        return portal.call(stream.count_pending)


@contextmanager
def open_publishing(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> Iterator[PublishingSession]:
    """Connect, see that stream and consumer are there, and be ready to publish.

    Raises:
        StreamError: the server cannot be reached or does not take the work.
    """
    with connect_blocking(address, on_wait=on_wait) as (portal, stream):
        identity = portal.call(stream.prepare)
        if warning := stream.limits.warning(address.stream):
            on_wait(warning)
        with portal.wrap_async_context_manager(open_publisher(stream)) as publisher:
            drops = stream.limits.drops_oldest
            used = Throttle(stream, publisher) if drops else publisher
            yield PublishingSession(portal, stream, identity, used)


@contextmanager
def open_consuming(
    address: StreamAddress, *, on_wait: Callable[[str], None] = lambda _reason: None
) -> Iterator[ConsumingSession]:
    """Connect and take over the durable consumer with all it had left unacked.

    Raises:
        StreamError: the server cannot be reached or does not take the work.
    """
    with connect_blocking(address, on_wait=on_wait) as (portal, stream):
        identity = portal.call(stream.prepare)
        if not address.private:
            portal.call(refuse_company, stream)
        portal.call(reclaim_unacked, stream)
        with portal.wrap_async_context_manager(open_consumer(stream)) as consumer:
            yield ConsumingSession(portal, stream, identity, consumer)
