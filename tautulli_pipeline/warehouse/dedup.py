"""Which events of a batch are new: layer 2, then layer 3, in the order of the stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.matching import SAME_PLAY

# Events of this batch that go into the table, by the keys of layer 3.
_Accepted = dict[tuple[str, str], PlayKeys]


@dataclass(frozen=True)
class Duplicate:
    """An event that is not stored because `matched_event_id` already is."""

    layer: str
    reason: str
    matched_event_id: str
    matched_source: str


@dataclass(frozen=True)
class Redelivered:
    """The same message once more: its effect is already committed."""


Verdict = Duplicate | Redelivered


class Deduplicator:
    """Decides event by event, exactly as if each were written before the next is read."""

    def __init__(self, cache: DedupCache) -> None:
        self._cache = cache

    def judge(self, batch: Sequence[PlayKeys], stored: Mapping[int, Match]) -> dict[int, Verdict]:
        """Positions of `batch` that are not to be stored, each with its verdict.

        Args:
            batch: the keys of the batch, in stream order.
            stored: by position, the row of the table each play matches.
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
        """Drop what is remembered where a batch is rolled back."""
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
    """The keys of layer 3; the first that matches is the reason."""
    values = (keys.event_id, keys.correlation_key, keys.play)
    named = zip(SAME_PLAY, values, strict=True)
    return [(name, value) for name, value in named if value is not None]
