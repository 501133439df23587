"""The subjects we publish and consume, against those of streams and consumers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Final

SUBJECTS: Final = "playback.>"
# What an import publishes: `playback.tautulli-import.<media_type>`.
IMPORTED_SUBJECTS: Final = "playback.tautulli-import.*"


def takes_ours(patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` takes everything that an import publishes."""
    return any(covers(pattern, IMPORTED_SUBJECTS) for pattern in patterns)


def takes_only_events(patterns: Iterable[str]) -> bool:
    """Whether `patterns` take nothing but playback events."""
    return all(covers(SUBJECTS, pattern) for pattern in patterns)


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject of the pattern `narrow` is one of the pattern `wide`."""
    for mine, other in zip_longest(wide.split("."), narrow.split(".")):
        if mine == ">":
            return other is not None
        if mine is None or other is None or other == ">":
            return False
        if mine not in {"*", other}:
            return False
    return True
