"""New and duplicate events of a batch, and what the duplicates repeat."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.dedup import find_duplicates

# The table keys; the first that matches is the reason.
TABLE_KEYS = {
    "event_id": "event_id",
    "correlation_key": "correlation_key",
    "rating_key_user_started": "play",
    "guid_user_started": "same_item",
}


def play(sequence, **keys):
    """Return a play that shares no key with plays of other sequences."""
    standard = PlayKeys(
        event_id=f"event-{sequence}",
        correlation_key=f"correlation-{sequence}",
        session=f"session-{sequence}",
        cross_source_key=f"cross-{sequence}",
        play=f"play-{sequence}",
        same_item=f"item-{sequence}",
        source="tautulli-import",
        sequence=sequence,
    )
    return standard._replace(**keys)


def judge(plays, stored, cache):
    return find_duplicates(dict(enumerate(plays)), stored, cache)


def cache_of(entries=1000):
    return DedupCache(1e9, entries)


def stored_as(reason, *, same_message=False):
    return Match("database", reason, "event-old", "plex", same_message)


def by_table(reason, event_id="event-old", source="plex"):
    return Match("database", reason, event_id, source)


@pytest.mark.parametrize("entries", [0, 1000])
def test_plays_that_share_no_key_are_all_new(entries):
    cache = cache_of(entries)
    assert judge([play(1), play(2, session=None, play=None)], {}, cache) == {}
    assert judge([play(3), play(4, session=None, play=None)], {}, cache) == {}


def test_a_message_twice_in_a_batch_counts_once():
    judged = judge([play(1), play(2, event_id="event-1"), play(1)], {}, cache_of())
    assert judged == {
        1: Match("cache", "event_id", "event-1", "tautulli-import"),
        2: None,
    }


def test_redelivery_of_a_stored_message_changes_nothing():
    stored = {0: stored_as("event_id", same_message=True)}
    cache = cache_of()
    judge([play(9, event_id="event-1")], {}, cache)
    assert judge([play(1)], stored, cache) == {0: None}


def test_redelivery_of_a_remembered_message_changes_nothing():
    cache = cache_of()
    judge([play(1)], {}, cache)
    assert judge([play(1)], {}, cache) == {0: None}
    assert judge([play(2, event_id="event-1")], {}, cache) == {
        0: Match("cache", "event_id", "event-1", "tautulli-import")
    }


def test_the_cache_is_searched_before_the_table():
    cache = cache_of()
    judge([play(1, event_id="event-new", source="emby")], {}, cache)
    stored = {0: stored_as("event_id")}
    judged = judge([play(2, session="session-1")], stored, cache)
    assert judged == {0: Match("cache", "session_key", "event-new", "emby")}


@pytest.mark.parametrize("reason", TABLE_KEYS)
def test_the_matching_table_key_is_the_reason(reason):
    judged = judge([play(1), play(2)], {1: stored_as(reason)}, cache_of(0))
    assert judged == {1: by_table(reason)}


@pytest.mark.parametrize(("reason", "key"), TABLE_KEYS.items())
def test_a_play_of_the_same_batch_matches_like_a_stored_one(reason, key):
    first, second = play(1), play(2)
    again = second._replace(**{key: getattr(first, key)})
    judged = judge([first, again], {}, cache_of(0))
    assert judged == {1: by_table(reason, "event-1", "tautulli-import")}


@pytest.mark.parametrize(
    ("stored", "in_batch", "reason", "matched"),
    [
        ("event_id", "correlation_key", "event_id", "event-old"),
        ("rating_key_user_started", "correlation_key", "correlation_key", "event-1"),
        ("correlation_key", "play", "correlation_key", "event-old"),
    ],
)
def test_the_stronger_of_two_matching_keys_is_the_reason(stored, in_batch, reason, matched):
    first = play(1)
    again = play(2, **{in_batch: getattr(first, in_batch)})
    judged = judge([first, again], {1: stored_as(stored)}, cache_of(0))
    assert (judged[1].reason, judged[1].event_id) == (reason, matched)


@pytest.mark.parametrize("key", ["session", "play", "same_item"])
def test_a_missing_key_matches_nothing(key):
    plays = [play(n, **{key: None}) for n in (1, 2)]
    assert judge([*plays], {}, cache_of(0)) == {}
    assert judge([*plays], {}, cache_of()) == {}


@pytest.mark.parametrize("entries", [0, 1000])
def test_a_duplicate_does_not_make_other_plays_duplicates(entries):
    chain = [
        play(1),
        play(2, event_id="event-1", correlation_key="other"),
        play(3, correlation_key="other"),
    ]
    judged = judge([*chain], {}, cache_of(entries))
    assert list(judged) == [1]


def names(kind, most):
    return st.integers(0, most).map(lambda n: f"{kind}-{n}")


PLAYS = st.builds(
    PlayKeys,
    event_id=names("event", 5),
    correlation_key=names("correlation", 5),
    session=st.none() | names("session", 5),
    cross_source_key=names("cross", 5),
    play=st.none() | names("play", 5),
    same_item=st.none() | names("item", 5),
    source=st.sampled_from(["plex", "emby"]),
    sequence=st.integers(1, 12),
)


def judged_in_parts(plays, cuts, entries):
    """Judge the plays in several committed batches; return the verdicts and the table."""
    cache, table, verdicts = cache_of(entries), [], {}
    edges = [0, *sorted(cut % (len(plays) + 1) for cut in cuts), len(plays)]
    for begin, end in pairwise(edges):
        part = plays[begin:end]
        stored = {i: found for i, p in enumerate(part) if (found := in_table(table, p))}
        if part:
            judged = judge([*part], stored, cache)
            verdicts |= {begin + i: verdict for i, verdict in judged.items()}
            table += [p for i, p in enumerate(part) if i not in judged]
    return verdicts, table


def in_table(table, keys):
    for reason, name in TABLE_KEYS.items():
        for row in table:
            if getattr(row, name) is not None and getattr(row, name) == getattr(keys, name):
                same = any(r.sequence == keys.sequence for r in table)
                return Match("database", reason, row.event_id, row.source, same_message=same)
    return None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(PLAYS, max_size=14, unique_by=lambda keys: keys.sequence),
    st.lists(st.integers(0, 30), max_size=4),
    st.sampled_from([0, 1000]),
)
def test_batch_boundaries_make_no_difference(plays, cuts, entries):
    whole, table = judged_in_parts(plays, [], entries)
    assert judged_in_parts(plays, cuts, entries) == (whole, table)
    for name in TABLE_KEYS.values():
        values = [getattr(row, name) for row in table if getattr(row, name) is not None]
        assert len(set(values)) == len(values)
