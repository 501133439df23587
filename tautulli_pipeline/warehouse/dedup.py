"""Find the duplicates in a batch: layer 2, then layer 3, in stream order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.matching import SAME_PLAY

# The fields of `PlayKeys` that are keys: all but the source and the sequence.
_KEYS: Final = PlayKeys._fields.index("source")
_LAST: Final = PlayKeys._fields.index("same_item")

# Events of this batch that will be stored, by their layer 3 keys.
_Accepted = dict[tuple[str, str], PlayKeys]


def find_duplicates(
    batch: Mapping[int, PlayKeys], stored: Mapping[int, Match], cache: DedupCache
) -> dict[int, Match | None]:
    """Judge a batch event by event, as if each were written before the next is read.

    Args:
        batch: the keys of each event by position, in stream order.
        stored: the stored row that an event matches, by position.
        cache: remembers the events that must be stored.

    Returns:
        By position, the play that an event repeats; None for a redelivered message, whose
        effect is already committed. All other events must be stored.
    """
    plays = batch.values()
    if not stored and _all_distinct(plays) and not cache.knows_any(plays):
        for keys in plays:
            cache.remember(keys)
        return {}
    accepted: _Accepted = {}
    repeated: dict[int, Match | None] = {}
    seen: set[int] = set()
    for position, keys in batch.items():
        if keys.sequence in seen:
            repeated[position] = None
            continue
        seen.add(keys.sequence)
        match = _find(keys, stored.get(position), accepted, cache)
        if match is None:
            accepted |= dict.fromkeys(_table_keys(keys), keys)
            cache.remember(keys)
        else:
            repeated[position] = None if match.same_message else match
    return repeated


def _find(
    keys: PlayKeys, stored: Match | None, accepted: _Accepted, cache: DedupCache
) -> Match | None:
    if stored is not None and stored.same_message:
        return stored
    hit = cache.find(keys)
    if hit is not None:
        return hit
    for reason, value in _table_keys(keys):
        if stored is not None and stored.reason == reason:
            return stored
        earlier = accepted.get((reason, value))
        if earlier is not None:
            return Match("database", reason, earlier.event_id, earlier.source)
    return None


def _all_distinct(batch: Collection[PlayKeys]) -> bool:
    """Whether no two plays of the batch share any key."""
    columns = list(zip(*(keys[:_KEYS] + keys[_LAST:] for keys in batch), strict=True))
    named = ([key for key in column if key is not None] for column in columns)
    return all(len(set(keys)) == len(keys) for keys in named)


def _table_keys(keys: PlayKeys) -> list[tuple[str, str]]:
    """Return the layer 3 keys; the first that matches is the reason."""
    values = (keys.event_id, keys.correlation_key, keys.play, keys.same_item)
    named = zip(SAME_PLAY, values, strict=True)
    return [(name, value) for name, value in named if value is not None]
