"""The connection to JetStream, and the stream and durable consumer behind it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.wire import Wire

SUBJECTS: Final = "playback.>"
ACK_WAIT_SECONDS: Final = 30.0
MAX_UNACKED_MESSAGES: Final = 50_000
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_REMEMBERED_FAULTS: Final = 10


@dataclass(frozen=True)
class StreamAddress:
    """Where the stream is and how to get in."""

    url: str
    stream: str
    durable_name: str
    duplicate_window_seconds: float
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class StreamIdentity:
    """A stream and its making: one made anew under the same name is another stream."""

    name: str
    created_at: datetime

    def __str__(self) -> str:
        return f"{self.name}@{self.created_at.isoformat()}"


class JetStream:
    """One connection and the two names every request needs.

    Attributes:
        denied: what the server said this account may not do; '' for nothing so far.
    """

    def __init__(self, client: Client, address: StreamAddress) -> None:
        self.client = client
        self.wire = Wire(client)
        self.address = address
        self.denied = ""
        self.context: JetStreamContext = client.jetstream(timeout=_CONNECT_TIMEOUT_SECONDS)

    @property
    def max_payload_bytes(self) -> int:
        """The largest message the server takes, headers included."""
        return self.client.max_payload

    async def prepare(self) -> StreamIdentity:
        """Find or make the stream and our durable consumer.

        The consumer exists before the first publish: interest retention drops what
        nobody waits for.

        Raises:
            StreamError: no JetStream there, or the stream does not take our subjects.
        """
        try:
            info = await self._stream()
            await self._consumer()
        except (NatsError, APIError, TimeoutError) as error:
            raise self._fault("prepare", error) from error
        assert info.created is not None
        return StreamIdentity(self.address.stream, info.created)

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
        if not any(_covers(subject) for subject in info.config.subjects or []):
            raise StreamError(
                f"stream {self.address.stream} does not take the subjects {SUBJECTS}",
                hint="add the subject to the stream, or set NATS_STREAM to another name",
            )
        return info

    async def _consumer(self) -> None:
        try:
            await self.consumer_info()
        except NotFoundError:
            await self.context.add_consumer(self.address.stream, self._consumer_config())

    def _consumer_config(self, ack_wait_seconds: float = ACK_WAIT_SECONDS) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=self.address.durable_name,
            filter_subject=SUBJECTS,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_seconds,
            max_ack_pending=MAX_UNACKED_MESSAGES,
        )

    async def consumer_info(self) -> ConsumerInfo:
        """State of the durable consumer."""
        info: ConsumerInfo = await self.context.consumer_info(
            self.address.stream, self.address.durable_name
        )
        return info

    async def last_sequence(self) -> int:
        """The newest message of the stream."""
        info = await self.context.stream_info(self.address.stream)
        return int(info.state.last_seq)

    async def reclaim_unacked(self) -> None:
        """Have messages that a dead consumer left unacked redelivered at once.

        Only for the one process that consumes: the server would wait out the ack
        deadline first, so the deadline is shortened for a moment. One that died in
        that moment left it short.

        Raises:
            StreamError: the server does not do it.
        """
        stream = self.address.stream
        try:
            info = await self.consumer_info()
            if info.num_ack_pending:
                await self.context.add_consumer(stream, self._consumer_config(ack_wait_seconds=0.5))
                await asyncio.sleep(1)
            elif info.config.ack_wait == ACK_WAIT_SECONDS:
                return
            await self.context.add_consumer(stream, self._consumer_config())
        except (NatsError, APIError, TimeoutError) as error:
            raise self._fault("take over the consumer of", error) from error

    def _fault(self, operation: str, error: Exception) -> StreamError:
        if isinstance(error, (NoRespondersError, ServiceUnavailableError)):
            cause = "the server has no JetStream"
        else:
            cause = str(error) or type(error).__name__
        return StreamError(
            f"cannot {operation} stream {self.address.stream} at {self.address.url}: {cause}",
            hint="check NATS_URL and that JetStream is enabled for this account",
        )


def _covers(subject: str) -> bool:
    return subject in {SUBJECTS, ">", "*.>"}


@asynccontextmanager
async def connect(address: StreamAddress) -> AsyncIterator[JetStream]:
    """Connect; reconnects by itself for as long as the context is open.

    Raises:
        StreamError: the server cannot be reached or refuses the credentials.
    """
    faults: deque[Exception] = deque(maxlen=_REMEMBERED_FAULTS)
    client = Client()
    stream = JetStream(client, address)

    async def remember(error: Exception) -> None:
        faults.append(error)
        if "permissions violation" in str(error).lower():
            stream.denied = str(error)

    connecting = client.connect(
        address.url,
        name="tautulli-pipeline",
        max_reconnect_attempts=-1,
        # Subjects are made of checked tokens and of what the server itself sent.
        skip_subject_validation=True,
        reconnect_time_wait=1,
        error_cb=remember,
        **_login(address),
    )
    try:
        # Unlimited reconnects also mean an unlimited first attempt.
        await asyncio.wait_for(connecting, _CONNECT_TIMEOUT_SECONDS)
    except (NatsError, OSError, ValueError, TimeoutError) as error:
        await client.close()
        cause = str(error) or _cause(faults)
        raise StreamError(
            f"cannot reach the stream server at {address.url}: {cause}",
            hint="check NATS_URL and the NATS_* credentials; unset, the embedded server is used",
        ) from error
    try:
        yield stream
    finally:
        await client.close()


def _cause(faults: Iterable[Exception]) -> str:
    """What the server said last or, where it said nothing, what the network did."""
    said: list[Exception] = [fault for fault in faults if isinstance(fault, NatsError)]
    said = said or list(faults)
    return (str(said[-1]) if said else "") or "no answer"


def _login(address: StreamAddress) -> dict[str, Any]:
    login: dict[str, Any] = {}
    if address.user is not None:
        login |= {"user": address.user, "password": address.password or ""}
    if address.token is not None:
        login["token"] = address.token
    if address.credentials_file is not None:
        login["user_credentials"] = str(address.credentials_file)
    if address.ca_file is not None:
        login["tls"] = ssl.create_default_context(cafile=str(address.ca_file))
    return login
