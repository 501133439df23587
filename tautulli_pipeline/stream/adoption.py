"""Checks that an existing stream and durable consumer are suitable for the import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Final

from nats.js.api import StreamConfig

from tautulli_pipeline.errors import StreamError

SUBJECTS: Final = "playback.>"
# An import publishes to `playback.tautulli-import.<media_type>`.
_IMPORTED_SUBJECTS: Final = "playback.tautulli-import.*"
# With any other policy, a killed import would lose the messages it had pulled.
_ACK_POLICIES: Final = frozenset({"explicit", "all"})

# Hints by JetStream error code.
HINTS: Final = {
    10026: "set NATS_DURABLE_NAME to an existing consumer, or raise max_consumers",
    10065: f"set NATS_STREAM to the stream that captures {SUBJECTS}",
    10099: "set NATS_DURABLE_NAME to that consumer, or NATS_STREAM to another stream",
    10100: "set NATS_DURABLE_NAME to that consumer, or NATS_STREAM to another stream",
}
PERMISSION_HINT: Final = (
    "grant this permission to the user in NATS_URL or the NATS_* credentials, or create the "
    "stream and the consumer beforehand"
)


def check_stream(config: StreamConfig) -> None:
    """Check that the stream captures the import's subjects, keeps them and acknowledges messages.

    Raises:
        StreamError: it does not.
    """
    if not any(covers(pattern, _IMPORTED_SUBJECTS) for pattern in config.subjects or []):
        raise StreamError(
            f"stream {config.name} does not capture the subjects {SUBJECTS}",
            hint="add the subjects to the stream, or set NATS_STREAM to another stream",
        )
    if config.no_ack:
        raise StreamError(
            f"stream {config.name} does not acknowledge published messages (no_ack)",
            hint="set NATS_STREAM to another stream",
        )
    if not covers(SUBJECTS, _kept_subjects(config)):
        assert config.subject_transform is not None
        source, target = config.subject_transform.src or ">", config.subject_transform.dest
        raise StreamError(
            f"stream {config.name} hides the events of an import: "
            f"its subject_transform renames {source} to {target}",
            hint="remove the subject_transform, or set NATS_STREAM to another stream",
        )
    if config.sealed:
        raise StreamError(
            f"stream {config.name} accepts no messages, because it is sealed",
            hint="set NATS_STREAM to another stream",
        )


def check_consumer(info: Mapping[str, Any], stream: StreamConfig, last_sequence: int) -> None:
    """Check that the durable consumer delivers every event until it is acknowledged.

    Args:
        info: the consumer's state, as the server reports it.
        stream: the configuration of its stream.
        last_sequence: sequence of the newest message; the import publishes after it.

    Raises:
        StreamError: it cannot be used.
    """
    config = info["config"]
    reasons = [
        *_mode_problems(config),
        *_filter_problems(config, stream),
        *_start_problems(config, last_sequence),
    ]
    if info.get("paused"):
        reasons.append(f"it is paused until {config.get('pause_until')}")
    if reasons:
        raise StreamError(
            f"consumer {info['name']} of stream {stream.name} cannot be used: {reasons[0]}",
            hint="set NATS_DURABLE_NAME to another name; a suitable consumer is then created",
        )


def _mode_problems(config: Mapping[str, Any]) -> Iterable[str]:
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
            yield f"it limits the size of a pull ({limit} {config[limit]})"


def _filter_problems(config: Mapping[str, Any], stream: StreamConfig) -> Iterable[str]:
    filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
    kept = _kept_subjects(stream)
    if not any(covers(pattern, kept) for pattern in filters):
        yield f"its filter {', '.join(filters)} excludes {kept}"
    elif not (_matches_only_events(filters) or _matches_only_events(stream.subjects or [])):
        yield f"its filter {', '.join(filters)} matches more than {SUBJECTS}"


def _start_problems(config: Mapping[str, Any], last_sequence: int) -> Iterable[str]:
    first = config.get("opt_start_seq") or 0
    if first > last_sequence + 1:
        yield f"it starts at message {first}, but the stream is at {last_sequence}"
    starts_at = config.get("opt_start_time")
    if starts_at and datetime.fromisoformat(starts_at) > datetime.now(UTC):
        yield f"it starts at {starts_at}"


def _kept_subjects(stream: StreamConfig) -> str:
    """Return the subjects under which a stream keeps the events of an import."""
    transform = stream.subject_transform
    if transform is None or not _overlap(transform.src or ">", _IMPORTED_SUBJECTS):
        return _IMPORTED_SUBJECTS
    # Tokens such as {{wildcard(1)}} or $1 are computed.
    tokens = transform.dest.split(".")
    return ".".join("*" if token.startswith(("{{", "$")) else token for token in tokens)


def _overlap(one: str, other: str) -> bool:
    """Whether a subject matches both patterns."""
    for mine, theirs in zip_longest(one.split("."), other.split(".")):
        if mine is None or theirs is None:
            return False
        if ">" in {mine, theirs}:
            return True
        if mine != theirs and "*" not in {mine, theirs}:
            return False
    return True


def _matches_only_events(patterns: Iterable[str]) -> bool:
    """Whether `patterns` match only playback events."""
    return all(covers(SUBJECTS, pattern) for pattern in patterns)


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every subject that `narrow` matches."""
    for mine, other in zip_longest(wide.split("."), narrow.split(".")):
        if mine == ">":
            return other is not None
        if mine is None or other is None or other == ">":
            return False
        if mine not in {"*", other}:
            return False
    return True
