"""JetStream requests for the stream and its durable consumer, over one connection."""

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
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.adoption import (
    HINTS,
    PERMISSION_HINT,
    SUBJECTS,
    check_consumer,
    check_stream,
)
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, Limits, message_limit
from tautulli_pipeline.stream.patience import TRANSIENT, UNREACHABLE, Answer, unless
from tautulli_pipeline.stream.wire import WireClient

ACK_WAIT_SECONDS: Final = 30.0
MAX_UNACKED_MESSAGES: Final = 50_000
_REQUEST_TIMEOUT_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.5


class JetStream:
    """A connection, with the stream and the durable consumer that it is for.

    Attributes:
        denied: the permission error that the server reported; '' if none.
        identity: the id of the stream found or created by `prepare`, see `stream_id`.
        limits: the limits of that stream.
        message_limit: the largest message that it takes.
        unanswered: set when requests sent so far will get no answer; then replaced by a new event.
        on_wait: called with the reason for each wait; may raise to abort it.
    """

    def __init__(
        self, client: WireClient, address: StreamAddress, *, on_wait: Callable[[str], None]
    ) -> None:
        self.client = client
        self.address = address
        self.on_wait = on_wait
        self.denied = ""
        self.identity = ""
        self.limits = Limits()
        self.message_limit = DEFAULT_MESSAGE_LIMIT
        self.context: JetStreamContext = client.jetstream(timeout=_REQUEST_TIMEOUT_SECONDS)
        self.unanswered = asyncio.Event()

    def deny(self, message: str) -> None:
        """Record a permission error; the server does not answer denied requests."""
        self.denied = message.removeprefix("nats: ")
        self.end_waits()

    def end_waits(self) -> None:
        """End all waits for answers, because what was asked so far is never answered."""
        self.unanswered.set()
        self.unanswered = asyncio.Event()

    async def prepare(self) -> str:
        """Find or create the stream and its durable consumer; return the id of the stream.

        The consumer must exist before the first publish: interest retention drops
        messages that have no consumer.

        Raises:
            StreamError: JetStream is not enabled, or the stream or the consumer cannot be
                used.
        """
        try:
            info = await self.ask(self._find_or_create_stream)
            consumer = await self.ask(self.find_or_create_consumer)
        except (NatsError, TimeoutError) as error:
            raise self.request_error("prepare", error) from error
        check_consumer(consumer, info.config, int(info.state.last_seq))
        self.limits = Limits.of(info.config, consumer["config"])
        self.message_limit = message_limit(self.client.max_payload, info.config)
        self.identity = stream_id(info)
        return self.identity

    async def ask(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send a request, and again if the server was lost meanwhile.

        A server of others that is there but does not answer has no JetStream.
        """
        deadline = time.monotonic() + self.address.patience_seconds
        while True:
            reconnects = self.client.stats["reconnects"]
            try:
                if self.denied:
                    raise TimeoutError
                return await unless(self.unanswered, request())
            except TRANSIENT:
                was_connected = (
                    self.client.is_connected and self.client.stats["reconnects"] == reconnects
                )
                is_final = self.denied or (was_connected and not self.address.private)
                if is_final or time.monotonic() > deadline:
                    raise
            self.on_wait(UNREACHABLE)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _find_or_create_stream(self) -> StreamInfo:
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

    async def find_or_create_consumer(self) -> dict[str, Any]:
        """Return the state of the durable consumer; create it if it does not exist."""
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
        """Create or update the durable consumer; `config` has the server's format."""
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

    async def retry(self, operation: str, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send a request, and retry it while the server is unreachable.

        Args:
            operation: what the request does, for the error message.
            request: must be safe to repeat.

        Raises:
            StreamError: the server did not come back in time, or the request failed.
        """
        deadline = time.monotonic() + self.address.patience_seconds
        while True:
            try:
                return await unless(self.unanswered, request())
            except (NatsError, OSError) as error:
                if not isinstance(error, TRANSIENT) or time.monotonic() > deadline:
                    raise self.request_error(operation, error) from error
            self.on_wait(UNREACHABLE)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def consumer_info(self) -> dict[str, Any]:
        """Return the state of the durable consumer, as the server reports it."""
        return await self._request(
            f"CONSUMER.INFO.{self.address.stream}.{self.address.durable_name}"
        )

    async def ensure_consumer(self) -> dict[str, Any]:
        """Return the state of the durable consumer, with retries; recreate it if it was deleted.

        Raises:
            StreamError: the server stays unreachable, or the stream is gone.
        """

        async def ask() -> dict[str, Any]:
            try:
                return await self.consumer_info()
            except NotFoundError:
                await self.require_stream()
                return await self.find_or_create_consumer()

        return await self.retry("read the consumer of", ask)

    async def require_stream(self) -> StreamInfo:
        """Return the current state of the prepared stream.

        Raises:
            StreamError: it was deleted or recreated.
        """
        name = self.address.stream
        try:
            info = await self.context.stream_info(name)
        except NotFoundError as error:
            raise _gone(name, "was deleted") from error
        if self.identity and stream_id(info) != self.identity:
            raise _gone(name, "was deleted and recreated")
        return info

    async def cause_of_loss(self) -> str:
        """Return why events do not reach the consumer, as far as the settings show it; or ''."""
        try:
            info, consumer = await self.require_stream(), await self.consumer_info()
            check_stream(info.config)
            check_consumer(consumer, info.config, int(info.state.last_seq))
        except StreamError as error:
            return error.message
        except (NatsError, TimeoutError):
            return ""
        drops = Limits.of(info.config, consumer["config"]).drops
        dropping = f"stream {self.address.stream} drops events before they are consumed ({drops})"
        return dropping if drops else ""

    async def last_sequence(self) -> int:
        """Return the sequence of the newest message.

        Raises:
            StreamError: the server stays unreachable, or the stream is gone.
        """
        info = await self.retry("read", self.require_stream)
        return int(info.state.last_seq)

    def request_error(self, operation: str, error: Exception) -> StreamError:
        """Return the error to report for a failed request."""
        hint = self.address.hint("check NATS_URL and that JetStream is enabled for this account")
        if isinstance(error, APIError) and error.description:
            cause = error.description
            hint = HINTS.get(error.err_code or 0, hint)
        elif isinstance(error, (NoRespondersError, ServiceUnavailableError)):
            cause = "JetStream is not enabled on the server"
        elif isinstance(error, ConnectionClosedError):
            cause = f"the server closed the connection: {self.client.last_error or error}"
        else:
            cause = self.denied or str(error) or type(error).__name__
            hint = PERMISSION_HINT if self.denied else hint
        return StreamError(
            f"cannot {operation} stream {self.address.stream} at {self.address.shown_url}: {cause}",
            hint=hint,
        )


def stream_id(info: StreamInfo) -> str:
    """Return the name and the creation time of a stream; a recreated stream has another id."""
    assert info.created is not None
    return f"{info.config.name}@{info.created.isoformat()}"


def unconsumed(info: Mapping[str, Any]) -> int:
    """Return the number of messages that the consumer has not acked, delivered or not."""
    return int(info["num_pending"] + info["num_ack_pending"])


def _gone(name: str, what: str) -> StreamError:
    return StreamError(
        f"stream {name} {what} while the import ran",
        hint="import again to publish the events that are not in the table yet",
    )
