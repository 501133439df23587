"""Find the duplicates in a batch: layer 2, then layer 3, in stream order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.matching import SAME_PLAY

# Events of this batch that will be stored, by their layer 3 keys.
_Accepted = dict[tuple[str, str], PlayKeys]


@dataclass(frozen=True)
class Duplicate:
    """An event that is not stored because it repeats the stored `matched_event_id`."""

    layer: str
    reason: str
    matched_event_id: str
    matched_source: str


@dataclass(frozen=True)
class Redelivered:
    """A redelivered message, whose effect is already committed."""


Verdict = Duplicate | Redelivered


class Deduplicator:
    """Judges a batch event by event, as if each were written before the next is read."""

    def __init__(self, cache: DedupCache) -> None:
        self._cache = cache

    def judge(self, batch: Sequence[PlayKeys], stored: Mapping[int, Match]) -> dict[int, Verdict]:
        """Return a verdict for each position of `batch` that must not be stored.

        Args:
            batch: the keys of the batch, in stream order.
            stored: by position, the stored row that the event matches.
        """
        if not stored and _all_distinct(batch) and not self._cache.knows_any(batch):
            for keys in batch:
                self._cache.remember(keys)
            return {}
        accepted: _Accepted = {}
        verdicts: dict[int, Verdict] = {}
        seen: set[int] = set()
        for position, keys in enumerate(batch):
            if keys.sequence in seen:
                verdicts[position] = Redelivered()
                continue
            seen.add(keys.sequence)
            verdict = self._judge(keys, stored.get(position), accepted)
            if verdict is None:
                accepted |= dict.fromkeys(_table_keys(keys), keys)
                self._cache.remember(keys)
            else:
                verdicts[position] = verdict
        return verdicts

    @contextmanager
    def forgetting_failures(self) -> Iterator[None]:
        """Clear the cache if the batch is rolled back."""
        try:
            yield
        except BaseException:
            self._cache.forget_all()
            raise

    def _judge(self, keys: PlayKeys, stored: Match | None, accepted: _Accepted) -> Verdict | None:
        if stored is not None and stored.same_message:
            return Redelivered()
        hit = self._cache.find(keys)
        if hit is not None:
            if hit.same_message:
                return Redelivered()
            return Duplicate("cache", hit.reason, hit.event_id, hit.source)
        for reason, value in _table_keys(keys):
            match = stored if stored and stored.reason == reason else accepted.get((reason, value))
            if match is not None:
                return Duplicate("database", reason, match.event_id, match.source)
        return None


def _all_distinct(batch: Sequence[PlayKeys]) -> bool:
    """Whether no two plays of the batch share any key."""
    *columns, _source, _sequence = zip(*batch, strict=True) if batch else ((), ())
    named = ([key for key in column if key is not None] for column in columns)
    return all(len(set(keys)) == len(keys) for keys in named)


def _table_keys(keys: PlayKeys) -> list[tuple[str, str]]:
    """Return the layer 3 keys; the first that matches is the reason."""
    values = (keys.event_id, keys.correlation_key, keys.play)
    named = zip(SAME_PLAY, values, strict=True)
    return [(name, value) for name, value in named if value is not None]
