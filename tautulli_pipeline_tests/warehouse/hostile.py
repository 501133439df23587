"""Messages that try to break the consumer, among good ones."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from tautulli_pipeline_tests.warehouse.plays import event, message

if TYPE_CHECKING:
    from collections.abc import Callable


def _play(number: int, **fields: Any) -> bytes:
    return json.dumps(event(number, **fields)).encode()


# By number and size in bytes.
KINDS: tuple[Callable[[int, int], bytes], ...] = (
    lambda _, size: b"[" * size,
    lambda _, size: b'{"a":' * (size // 5),
    lambda _, size: b"\xff" * size,
    lambda _, size: b"\x00" * size,
    lambda _, size: b'"' + b'\\"' * (size // 2),
    lambda _, size: b'{"token":' + b"[" * size,
    lambda _, size: b"[" * (size // 2) + b"]" * (size // 2),
    lambda _, size: b" " * size,
    lambda _, size: b'{"a":"' + b"?token=" * (size // 7) + b'"}',
    lambda _, size: json.dumps({"x": "\x00" * (size // 6)}).encode(),
    lambda n, size: _play(n)[: size % 150],
    lambda n, size: _play(n, summary="x" * size).decode().encode("utf-16"),
    lambda n, size: _play(n, started_at="x" * size),
    lambda n, size: _play(n, user_id=[1] * (size // 3)),
    lambda n, size: _play(n, started_at=None, **{f"field {i}": i for i in range(size // 16)}),
)


def hostile_messages(
    seed: int, count: int, *, share: float, most_bytes: int = 800_000
) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Return messages, this share of them hostile, and the sequences of the others."""
    dice = random.Random(seed)
    messages, good = [], []
    for number in range(1, count + 1):
        if dice.random() >= share:
            good.append(number)
            messages.append(message(number, event(number)))
            continue
        size = int(2 ** dice.uniform(4, most_bytes.bit_length()))
        body = dice.choice(KINDS)(number, min(size, most_bytes))
        messages.append((number, "playback.plex.movie", None, f"message-{number}", body))
    return messages, good
