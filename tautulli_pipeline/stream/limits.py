"""What a stream may drop before it is consumed, and how much it holds at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from nats.js.api import DiscardPolicy, StreamConfig

# A consumer that waits for full batches needs room for more than one.
_ROOMY_MESSAGES: Final = 20_000
_ROOMY_BYTES: Final = 64 * 2**20
_UNLIMITED: Final = 2**62
# What waits for so long is likely to wait for a consumer that nobody runs.
_LONG_SECONDS: Final = 86_400


@dataclass(frozen=True)
class Limits:
    """The limits of a stream with our consumer on it.

    Attributes:
        max_messages: messages it holds at once.
        max_bytes: bytes it holds at once.
        max_unacked: messages the consumer may have pulled and not acknowledged.
        drops: how it loses messages that nobody has consumed; '' if it does not.
    """

    max_messages: int = _UNLIMITED
    max_bytes: int = _UNLIMITED
    max_unacked: int = _UNLIMITED
    drops: str = ""
    drops_oldest: bool = False

    @classmethod
    def of(cls, stream: StreamConfig, consumer: dict[str, Any]) -> Self:
        """Read them from the configurations of stream and consumer."""
        sizes, refusing = sizes_of(stream), _refusing(stream)
        causes = [f"{name} {size}" for name, size in sizes.items() if name not in refusing]
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
        """Whether a consumer must not wait for full batches."""
        messages = min(self.max_messages, self.max_unacked)
        return messages < _ROOMY_MESSAGES or self.max_bytes < _ROOMY_BYTES

    def warning(self, stream: str) -> str:
        """What a person should know before anything is published; '' for nothing."""
        if not self.drops:
            return ""
        return (
            f"stream {stream} may drop events before they are consumed ({self.drops}); "
            "what it drops is published again"
        )


def sizes_of(stream: StreamConfig) -> dict[str, int]:
    """How much the stream may hold, by the name of each limit that it has."""
    names = ("max_msgs", "max_bytes", "max_msgs_per_subject")
    sizes = {name: getattr(stream, name) for name in names}
    return {name: size for name, size in sizes.items() if size and size > 0}


def _refusing(stream: StreamConfig) -> frozenset[str]:
    """The limits beyond which it refuses what is new; beyond the others it drops the oldest."""
    if stream.discard != DiscardPolicy.NEW:
        return frozenset()
    by_subject = ["max_msgs_per_subject"] if stream.discard_new_per_subject else []
    return frozenset(["max_msgs", "max_bytes", *by_subject])
