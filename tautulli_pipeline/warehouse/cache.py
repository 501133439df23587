"""Layer 2: an exact least-recently-used cache of recently stored plays."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple


class PlayKeys(NamedTuple):
    """The keys that identify one play, and the message that carried it.

    Attributes:
        session: session key, user and start second; None without a session key.
        play: rating key, user and start second; None without a rating key.
        same_item: guid, user and start second; None without a guid that is the same everywhere.
    """

    event_id: str
    correlation_key: str
    session: str | None
    cross_source_key: str
    play: str | None
    source: str
    sequence: int
    same_item: str | None = None


class Match(NamedTuple):
    """A stored play that an event repeats.

    Attributes:
        layer: the layer that found it.
        reason: the key that matched.
        same_message: the event came in the same message that was stored as the row, or
            that was discarded as its duplicate.
    """

    layer: str
    reason: str
    event_id: str
    source: str
    same_message: bool = False


class DedupCache:
    """Remembers up to `max_entries` plays for `window_seconds` each."""

    def __init__(
        self,
        window_seconds: float,
        max_entries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window_seconds = window_seconds
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, PlayKeys]] = OrderedDict()
        self._correlations: dict[str, str] = {}
        self._sessions: dict[str, str] = {}
        self._cross_sources: dict[str, dict[str, str]] = {}

    def find(self, keys: PlayKeys) -> Match | None:
        """Return the remembered play that `keys` repeat; a hit counts as use."""
        self._expire()
        for reason, event_id in (
            ("event_id", keys.event_id),
            ("correlation_key", self._correlations.get(keys.correlation_key)),
            ("session_key", keys.session and self._sessions.get(keys.session)),
            ("cross_source_key", self._from_another_source(keys)),
        ):
            if event_id is not None and event_id in self._entries:
                self._entries.move_to_end(event_id)
                known = self._entries[event_id][1]
                self._entries[event_id] = (self._clock(), known)
                same_message = known.sequence == keys.sequence
                return Match("cache", reason, event_id, known.source, same_message)
        return None

    def remember(self, keys: PlayKeys) -> None:
        """Add a play that `find` did not find; drop the least recently used from a full cache."""
        self._entries[keys.event_id] = (self._clock(), keys)
        self._entries.move_to_end(keys.event_id)
        self._correlations[keys.correlation_key] = keys.event_id
        if keys.session is not None:
            self._sessions[keys.session] = keys.event_id
        self._cross_sources.setdefault(keys.cross_source_key, {})[keys.event_id] = keys.source
        while len(self._entries) > self._max_entries:
            self._forget_oldest()

    def knows_any(self, batch: Iterable[PlayKeys]) -> bool:
        """Whether any play of `batch` may be remembered; False is certain."""
        self._expire()
        return any(
            keys.event_id in self._entries
            or keys.correlation_key in self._correlations
            or keys.session in self._sessions
            or keys.cross_source_key in self._cross_sources
            for keys in batch
        )

    def forget_all(self) -> None:
        """Empty the cache, as after a restart."""
        for known in (self._entries, self._correlations, self._sessions, self._cross_sources):
            known.clear()

    def _from_another_source(self, keys: PlayKeys) -> str | None:
        seen = self._cross_sources.get(keys.cross_source_key, {})
        return next((event_id for event_id, source in seen.items() if source != keys.source), None)

    def _expire(self) -> None:
        # A use refreshes both time and position, so the oldest entry is always first.
        horizon = self._clock() - self._window_seconds
        while self._entries and next(iter(self._entries.values()))[0] <= horizon:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        event_id, (_, keys) = self._entries.popitem(last=False)
        del self._correlations[keys.correlation_key]
        if keys.session is not None:
            del self._sessions[keys.session]
        seen = self._cross_sources[keys.cross_source_key]
        del seen[event_id]
        if not seen:
            del self._cross_sources[keys.cross_source_key]
