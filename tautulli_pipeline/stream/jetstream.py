"""Requests to JetStream over one connection: the stream and our durable consumer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import Error as NatsError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.address import StreamAddress, StreamIdentity
from tautulli_pipeline.stream.adoption import (
    REMEDIES,
    REMEDY_OF_A_DENIAL,
    check_consumer,
    check_stream,
)
from tautulli_pipeline.stream.limits import Limits
from tautulli_pipeline.stream.patience import AWAY, PASSING, Answer, unless
from tautulli_pipeline.stream.subjects import SUBJECTS
from tautulli_pipeline.stream.wire import WireClient

ACK_WAIT_SECONDS: Final = 30.0
MAX_UNACKED_MESSAGES: Final = 50_000
_REQUEST_TIMEOUT_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.5


class JetStream:
    """One connection and the two names every request needs.

    Attributes:
        denied: what the server said this account may not do; '' for nothing so far.
        identity: the stream that was prepared.
        limits: what that stream holds and drops.
        pending: messages that our consumer had not acked then, delivered or not.
        on_wait: called with the reason for each wait; may raise to end it.
    """

    def __init__(
        self, client: WireClient, address: StreamAddress, *, on_wait: Callable[[str], None]
    ) -> None:
        self.client = client
        self.address = address
        self.on_wait = on_wait
        self.denied = ""
        self.identity: StreamIdentity | None = None
        self.limits = Limits()
        self.pending = 0
        self.context: JetStreamContext = client.jetstream(timeout=_REQUEST_TIMEOUT_SECONDS)
        self._refused = asyncio.Event()

    def deny(self, words: str) -> None:
        """Note what this account may not do; requests are then given no answer."""
        self.denied = words.removeprefix("nats: ")
        self._refused.set()

    async def prepare(self) -> StreamIdentity:
        """Find or make the stream and our durable consumer.

        The consumer exists before the first publish: interest retention drops what
        nobody waits for.

        Raises:
            StreamError: no JetStream there, or stream or consumer do not serve us.
        """
        try:
            info = await unless(self._refused, self._stream())
            consumer = await unless(self._refused, self.consumer())
        except (NatsError, TimeoutError) as error:
            raise self.fault("prepare", error) from error
        check_consumer(consumer, info.config, int(info.state.last_seq))
        assert info.created is not None
        self.limits = Limits.of(info.config, consumer["config"])
        self.pending = unconsumed(consumer)
        self.identity = StreamIdentity(self.address.stream, info.created)
        return self.identity

    async def _stream(self) -> StreamInfo:
        try:
            info = await self.context.stream_info(self.address.stream)
        except NotFoundError:
            return await self.context.add_stream(
                StreamConfig(
                    name=self.address.stream,
                    subjects=[SUBJECTS],
                    retention=RetentionPolicy.INTEREST,
                    storage=StorageType.FILE,
                    discard=DiscardPolicy.NEW,
                    duplicate_window=self.address.duplicate_window_seconds,
                )
            )
        check_stream(info.config)
        return info

    async def consumer(self) -> dict[str, Any]:
        """What the server tells of the durable consumer, made if there is none."""
        try:
            return await self.consumer_info()
        except NotFoundError:
            config = ConsumerConfig(
                durable_name=self.address.durable_name,
                filter_subject=SUBJECTS,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_SECONDS,
                max_ack_pending=MAX_UNACKED_MESSAGES,
            )
            return await self.configure_consumer(config.as_dict())

    async def configure_consumer(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Make the durable consumer, or change it; `config` as the server has it."""
        address = self.address
        return await self._request(
            f"CONSUMER.DURABLE.CREATE.{address.stream}.{address.durable_name}",
            {"stream_name": address.stream, "config": config},
        )

    async def _request(self, api: str, body: object = None) -> dict[str, Any]:
        payload = b"" if body is None else orjson.dumps(body)
        message = await self.client.request(
            f"$JS.API.{api}", payload, timeout=_REQUEST_TIMEOUT_SECONDS
        )
        answer: dict[str, Any] = orjson.loads(message.data)
        if "error" in answer:
            raise APIError.from_error(answer["error"])
        return answer

    async def patiently(self, operation: str, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask, and ask again while the server is away.

        Args:
            operation: what is asked for, in the words of the fault.
            request: safe to repeat.

        Raises:
            StreamError: it did not come back in time, or what is asked for is gone.
        """
        deadline = time.monotonic() + self.address.patience_seconds
        while True:
            try:
                return await request()
            except (NatsError, OSError) as error:
                if not isinstance(error, PASSING) or time.monotonic() > deadline:
                    raise self.fault(operation, error) from error
            self.on_wait(AWAY)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def consumer_info(self) -> dict[str, Any]:
        """What the server tells of the durable consumer."""
        return await self._request(
            f"CONSUMER.INFO.{self.address.stream}.{self.address.durable_name}"
        )

    async def patient_consumer_info(self) -> dict[str, Any]:
        """The same, of a consumer that is made anew where somebody deleted it.

        Raises:
            StreamError: the server stays away, or the stream is gone.
        """

        async def ask() -> dict[str, Any]:
            try:
                return await self.consumer_info()
            except NotFoundError:
                await self.see_stream()
                return await self.consumer()

        return await self.patiently("see the consumer of", ask)

    async def see_stream(self) -> StreamInfo:
        """The stream that was prepared, as it is now.

        Raises:
            StreamError: it is gone, or another one has its name.
        """
        name = self.address.stream
        try:
            info = await self.context.stream_info(name)
        except NotFoundError as error:
            raise _gone(name, "was deleted") from error
        if self.identity is not None and info.created != self.identity.created_at:
            raise _gone(name, "was deleted and made anew")
        return info

    async def last_sequence(self) -> int:
        """The newest message of the stream.

        Raises:
            StreamError: the server stays away, or the stream is gone.
        """
        info = await self.patiently("see", self.see_stream)
        return int(info.state.last_seq)

    def fault(self, operation: str, error: Exception) -> StreamError:
        """What a person is told of a request that failed."""
        hint = "check NATS_URL and that JetStream is enabled for this account"
        if isinstance(error, APIError) and error.description:
            cause = error.description
            hint = REMEDIES.get(error.err_code or 0, hint)
        elif isinstance(error, (NoRespondersError, ServiceUnavailableError)):
            cause = "the server has no JetStream"
        elif isinstance(error, ConnectionClosedError):
            cause = f"the server ended the connection: {self.client.last_error or error}"
        else:
            cause = self.denied or str(error) or type(error).__name__
            hint = REMEDY_OF_A_DENIAL if self.denied else hint
        return StreamError(
            f"cannot {operation} stream {self.address.stream} at {self.address.shown_url}: {cause}",
            hint=hint,
        )


def unconsumed(info: Mapping[str, Any]) -> int:
    """Messages that the consumer has not acked, delivered or not."""
    return int(info["num_pending"] + info["num_ack_pending"])


def _gone(name: str, what: str) -> StreamError:
    return StreamError(
        f"stream {name} {what} while the import ran",
        hint="import again: what is not in the table yet is published again",
    )
