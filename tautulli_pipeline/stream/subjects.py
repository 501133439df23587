"""The subjects of events, and matching them against those of streams and consumers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Final

SUBJECTS: Final = "playback.>"
# An import publishes to `playback.tautulli-import.<media_type>`.
IMPORTED_SUBJECTS: Final = "playback.tautulli-import.*"


def matches_imports(patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` matches every event of an import."""
    return any(covers(pattern, IMPORTED_SUBJECTS) for pattern in patterns)


def matches_only_events(patterns: Iterable[str]) -> bool:
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
