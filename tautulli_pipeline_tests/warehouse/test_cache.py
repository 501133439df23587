"""Compares layer 2 with a list that is searched from end to end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.warehouse.cache import DedupCache, Match, PlayKeys
from tautulli_pipeline.warehouse.dedup import find_duplicates


def keys(event_id, *, correlation="", session=None, cross="", source="plex", sequence=1):
    """Return a play that shares no key with others, except the given ones."""
    own = str(event_id)
    return PlayKeys(own, correlation or own, session, cross or own, None, source, sequence)


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


class NaiveCache:
    """A cache with the same guarantees that searches every play each time."""

    def __init__(self, window_seconds, max_entries, clock):
        self.window_seconds, self.max_entries, self.clock = window_seconds, max_entries, clock
        self.uses = []  # [time of last use, storage order, keys], least recently used first
        self.stored = 0

    def find(self, wanted):
        self.uses = [use for use in self.uses if self.clock() - use[0] < self.window_seconds]
        matches = {
            "event_id": lambda known: known.event_id == wanted.event_id,
            "correlation_key": lambda known: known.correlation_key == wanted.correlation_key,
            "session_key": lambda known: wanted.session and known.session == wanted.session,
            "cross_source_key": lambda known: (
                known.cross_source_key == wanted.cross_source_key and known.source != wanted.source
            ),
        }
        for reason, is_match in matches.items():
            for use in sorted(self.uses, key=lambda use: use[1]):
                if is_match(use[2]):
                    self.uses.remove(use)
                    self.uses.append([self.clock(), *use[1:]])
                    return reason, use[2]
        return None

    def remember(self, wanted):
        self.stored += 1
        self.uses.append([self.clock(), self.stored, wanted])
        self.uses = self.uses[max(0, len(self.uses) - self.max_entries) :]


def match(wanted, reason, known):
    return Match("cache", reason, known.event_id, known.source, known.sequence == wanted.sequence)


few = st.integers(0, 5)
plays = st.builds(
    lambda event, correlation, session, cross, source, sequence: PlayKeys(
        f"event-{event}",
        f"correlation-{correlation}",
        None if session == 0 else f"session-{session}",
        f"cross-{cross}",
        None,
        source,
        sequence,
    ),
    st.integers(0, 20),
    st.integers(0, 20),
    few,
    few,
    st.sampled_from(["plex", "jellyfin", "tautulli-import"]),
    st.integers(1, 99),
)
steps = st.lists(st.one_of(plays, st.sampled_from([0.5, 4.0, 10.0])), max_size=60)


@settings(max_examples=400, deadline=None)
@given(steps, st.sampled_from([0, 5, 10]), st.sampled_from([0, 1, 2, 3, 100]))
def test_it_finds_and_forgets_the_same_plays_as_a_naive_list(script, window_seconds, max_entries):
    clock = Clock()
    cache = DedupCache(window_seconds, max_entries, clock)
    naive = NaiveCache(window_seconds, max_entries, clock)
    for step in script:
        if isinstance(step, float):
            clock.seconds += step
            continue
        hit, expected = cache.find(step), naive.find(step)
        assert hit == (expected and match(step, *expected))
        if hit is None:
            cache.remember(step)
            naive.remember(step)
        assert len(cache._entries) == len(naive.uses) <= max_entries


@settings(max_examples=200, deadline=None)
@given(st.lists(plays, max_size=5), st.lists(plays, max_size=5), st.sampled_from([0, 2, 100]))
def test_a_batch_of_new_plays_is_judged_and_remembered_like_single_plays(known, batch, max_entries):
    one, other = [DedupCache(10, max_entries, Clock()) for _ in range(2)]
    for play in known:
        for cache in (one, other):
            if cache.find(play) is None:
                cache.remember(play)
    hits = []
    for play in batch:
        hits.append(one.find(play))
        if hits[-1] is None:
            one.remember(play)
    if not find_duplicates(dict(enumerate(batch)), {}, other):
        assert not any(hits)
        assert list(one._entries) == list(other._entries)


def test_a_session_key_counts_only_with_the_same_user_and_second():
    cache = DedupCache(10, 10)
    cache.remember(keys(1, session="7|1700000000|41"))
    assert cache.find(keys(2, session="7|1700000000|41")).reason == "session_key"
    assert cache.find(keys(3, session="8|1700000000|41")) is None
    assert cache.find(keys(4, session="7|1700000001|41")) is None
    assert cache.find(keys(5, session=None)) is None


def test_plays_without_a_session_key_do_not_match():
    cache = DedupCache(10, 10)
    cache.remember(keys(1, session=None))
    assert cache.find(keys(2, session=None)) is None


def test_the_cross_source_key_counts_only_against_other_sources():
    cache = DedupCache(10, 10)
    cache.remember(keys(1, cross="same", source="plex"))
    assert cache.find(keys(2, cross="same", source="plex")) is None
    assert cache.find(keys(2, cross="same", source="jellyfin")).reason == "cross_source_key"


def test_an_older_play_is_still_found_by_its_cross_source_key_after_a_newer_one_is_dropped():
    cache = DedupCache(10, 2)
    cache.remember(keys(1, cross="same"))
    cache.remember(keys(2, cross="same"))
    cache.find(keys(1))
    cache.remember(keys(3))
    assert cache.find(keys(4, cross="same", source="jellyfin")).event_id == "1"


def test_a_hit_renews_a_play_and_the_window_ends_exactly():
    clock = Clock()
    cache = DedupCache(10, 10, clock)
    cache.remember(keys(1))
    clock.seconds += 9.9
    assert cache.find(keys(1)).reason == "event_id"
    clock.seconds += 9.9
    assert cache.find(keys(1)).reason == "event_id"
    clock.seconds += 10
    assert cache.find(keys(1)) is None
    assert len(cache._entries) == 0
