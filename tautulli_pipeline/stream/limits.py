"""Stream limits: capacity, and whether messages can be dropped before they are consumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from nats.js.api import DiscardPolicy, StreamConfig

# Subject and overhead of a message in the server's store, beside headers and payload.
_STORED_BYTES: Final = 128
# A consumer that waits for full batches needs room for more than one batch.
_ROOMY_MESSAGES: Final = 20_000
_ROOMY_BYTES: Final = 64 * 2**20
_UNLIMITED: Final = 2**62
# A message this old probably has no running consumer.
_LONG_SECONDS: Final = 86_400


class MessageLimit(NamedTuple):
    """The size of the largest message, headers included, and what sets it."""

    bytes: int
    set_by: str


DEFAULT_MESSAGE_LIMIT: Final = MessageLimit(8 * 2**20, "the pipeline")


def message_limit(max_payload: int, stream: StreamConfig | None) -> MessageLimit:
    """Return the largest message for a stream of a server; None for one that does not exist."""
    limits = [
        DEFAULT_MESSAGE_LIMIT,
        MessageLimit(max_payload, f"max_payload {max_payload} of the stream server"),
    ]
    if stream is not None and (size := stream.max_msg_size or 0) > 0:
        limits.append(MessageLimit(size, f"max_msg_size {size} of stream {stream.name}"))
    if stream is not None and (size := stream.max_bytes or 0) > 0:
        room = max(0, size - _STORED_BYTES)
        limits.append(MessageLimit(room, f"max_bytes {size} of stream {stream.name}"))
    return min(limits)


@dataclass(frozen=True)
class Limits:
    """The limits of a stream and its durable consumer.

    Attributes:
        max_messages: the maximum number of messages on the stream.
        max_bytes: the maximum size of the stream.
        max_unacked: the maximum number of delivered but unacked messages.
        drops: the limits that can drop unconsumed messages; '' if none can.
        drops_oldest: whether a full stream drops its oldest messages.
    """

    max_messages: int = _UNLIMITED
    max_bytes: int = _UNLIMITED
    max_unacked: int = _UNLIMITED
    drops: str = ""
    drops_oldest: bool = False

    @classmethod
    def of(cls, stream: StreamConfig, consumer: dict[str, Any]) -> Self:
        """Derive the limits from the configurations of the stream and the consumer."""
        sizes, rejecting = sizes_of(stream), _rejecting(stream)
        causes = [f"{name} {size}" for name, size in sizes.items() if name not in rejecting]
        drops_oldest = bool(causes)
        if stream.max_age and stream.max_age < _LONG_SECONDS:
            causes.append(f"max_age {stream.max_age:g} s")
        return cls(
            min(sizes.get(name, _UNLIMITED) for name in ("max_msgs", "max_msgs_per_subject")),
            sizes.get("max_bytes", _UNLIMITED),
            max(consumer.get("max_ack_pending") or 0, 0) or _UNLIMITED,
            ", ".join(causes),
            drops_oldest,
        )

    @property
    def narrow(self) -> bool:
        """Whether the limits are too small for a consumer that waits for full batches."""
        messages = min(self.max_messages, self.max_unacked)
        return messages < _ROOMY_MESSAGES or self.max_bytes < _ROOMY_BYTES


def sizes_of(stream: StreamConfig) -> dict[str, int]:
    """Return the stream's size limits by name, without unlimited ones."""
    names = ("max_msgs", "max_bytes", "max_msgs_per_subject")
    sizes = {name: getattr(stream, name) for name in names}
    return {name: size for name, size in sizes.items() if size and size > 0}


def _rejecting(stream: StreamConfig) -> frozenset[str]:
    """Return the limits that reject new messages; the others drop the oldest ones."""
    if stream.discard != DiscardPolicy.NEW:
        return frozenset()
    by_subject = ["max_msgs_per_subject"] if stream.discard_new_per_subject else []
    return frozenset(["max_msgs", "max_bytes", *by_subject])
