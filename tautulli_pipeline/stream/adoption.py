"""Whether a stream and a durable consumer that others made serve us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from nats.js.api import StreamConfig

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.subjects import (
    IMPORTED_SUBJECTS,
    SUBJECTS,
    takes_only_events,
    takes_ours,
)

# With others a killed import would lose what it had pulled.
_ACK_POLICIES: Final = frozenset({"explicit", "all"})

# What to do about a refusal, by JetStream's number for it.
REMEDIES: Final = {
    10026: "set NATS_DURABLE_NAME to a consumer that is there, or raise max_consumers",
    10065: f"set NATS_STREAM to the name of the stream that takes {SUBJECTS}",
    10099: "set NATS_DURABLE_NAME to that consumer, or NATS_STREAM to another stream",
    10100: "set NATS_DURABLE_NAME to that consumer, or NATS_STREAM to another stream",
}
REMEDY_OF_A_DENIAL: Final = (
    "permit it to the user that NATS_URL and the NATS_* credentials name, or make stream and "
    "consumer for it"
)


def check_stream(config: StreamConfig) -> None:
    """See that the stream takes what we publish and says so.

    Raises:
        StreamError: it does not.
    """
    if not takes_ours(config.subjects or []):
        raise StreamError(
            f"stream {config.name} does not take the subjects {SUBJECTS}",
            hint="add the subject to the stream, or set NATS_STREAM to another name",
        )
    if config.no_ack:
        raise StreamError(
            f"stream {config.name} does not acknowledge what is published (no_ack)",
            hint="set NATS_STREAM to another stream",
        )


def check_consumer(info: Mapping[str, Any], stream: StreamConfig, last_sequence: int) -> None:
    """See that the durable consumer brings all we publish, and until we acknowledge it.

    Args:
        info: what the server tells of it.
        stream: its stream.
        last_sequence: the newest message there; what we publish comes after it.

    Raises:
        StreamError: it does not.
    """
    config = info["config"]
    reasons = [
        *_ways(config),
        *_selection(config, stream.subjects or []),
        *_beginning(config, last_sequence),
    ]
    if info.get("paused"):
        reasons.append(f"it is paused until {config.get('pause_until')}")
    if reasons:
        raise StreamError(
            f"consumer {info['name']} of stream {stream.name} cannot be used: {reasons[0]}",
            hint="set NATS_DURABLE_NAME to another name; a fitting consumer is then made",
        )


def _ways(config: Mapping[str, Any]) -> Iterable[str]:
    if config.get("deliver_subject"):
        yield "it is a push consumer"
    if config.get("ack_policy") not in _ACK_POLICIES:
        yield f"its ack_policy is {config.get('ack_policy')}"
    if config.get("headers_only"):
        yield "it delivers headers only"
    if config.get("priority_policy", "none") != "none":
        yield f"its priority_policy is {config['priority_policy']}"
    for limit in ("max_batch", "max_bytes", "max_expires"):
        if config.get(limit):
            yield f"it limits what is pulled at once ({limit} {config[limit]})"


def _selection(config: Mapping[str, Any], stream_subjects: Iterable[str]) -> Iterable[str]:
    filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
    if not takes_ours(filters):
        yield f"its filter {', '.join(filters)} leaves out {IMPORTED_SUBJECTS}"
    elif not (takes_only_events(filters) or takes_only_events(stream_subjects)):
        yield f"its filter {', '.join(filters)} takes more than {SUBJECTS}"


def _beginning(config: Mapping[str, Any], last_sequence: int) -> Iterable[str]:
    first = config.get("opt_start_seq") or 0
    if first > last_sequence + 1:
        yield f"it begins at message {first}, and the stream is at {last_sequence}"
    begins_at = config.get("opt_start_time")
    if begins_at and datetime.fromisoformat(begins_at) > datetime.now(UTC):
        yield f"it begins at {begins_at}"
