"""Thousands of generated pairs of plays: different plays stay two, and one play becomes one."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    batch,
    event,
    memory_warehouse,
    message,
    rows,
)

if TYPE_CHECKING:
    import duckdb

BEGIN = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
SECONDS_APART = 10
PAIRS = 2000
SERVERS = Servers({"old": "home"})
GLOBAL_GUIDS = (
    "plex://movie/{}",
    "plex://episode/{}",
    "plex://track/{}",
    "com.plexapp.agents.imdb://tt{}?lang=en",
    "com.plexapp.agents.thetvdb://{}/1/2",
    "com.plexapp.agents.themoviedb://{}",
)
OTHER_GUIDS = ("local://{}", "com.plexapp.agents.none://{}", "plex://movie/", "tv.plex.xmltv://{}")


class Play(NamedTuple):
    """What distinguishes a play; `start` is in seconds after the beginning of its pair."""

    server: str
    row_id: int
    user: int
    start: int
    rating_key: str | None
    guid: str | None
    live: int
    machine: str
    title: str

    @property
    def global_guid(self) -> str | None:
        known = {pattern.partition("{}")[0] for pattern in GLOBAL_GUIDS}
        guid = self.guid or ""
        is_global = any(guid.startswith(word) and guid != word for word in known)
        return guid if is_global and not self.live else None


def is_one(a: Play, b: Play) -> bool:
    """Whether two rows are one play, by the rules in docs/duplicates.md."""
    if (a.user, a.start) != (b.user, b.start):
        return False
    same_guid = a.global_guid is not None and a.global_guid == b.global_guid
    if SERVERS.current(a.server) != SERVERS.current(b.server):
        return same_guid and a.user > 1
    same_item = a.rating_key is not None and a.rating_key == b.rating_key
    return a.row_id == b.row_id or same_item or same_guid


def some_play(dice: random.Random) -> Play:
    number = dice.randrange(3)
    return Play(
        dice.choice(("home", "home", "old", "cabin")),
        dice.randrange(1, 4),
        dice.choice((0, 1, 2, 2_000_001)),
        dice.randrange(2),
        dice.choice((None, "1", "2", "3")),
        dice.choice(("", *GLOBAL_GUIDS, *GLOBAL_GUIDS, *OTHER_GUIDS)).format(number) or None,
        int(dice.random() < 0.1),
        dice.choice(("m-1", "m-2")),
        dice.choice(("One", "Two")),
    )


def variant(dice: random.Random, play: Play) -> Play:
    """Return a play that differs in a few properties, or only in its numbers."""
    other = some_play(dice)
    if dice.random() < 0.2:
        return play._replace(row_id=play.row_id + 100)
    if dice.random() < 0.2:
        return play._replace(row_id=play.row_id + 100, rating_key="another number")
    changed = dice.sample(Play._fields, dice.randrange(0, 4))
    return play._replace(**{name: getattr(other, name) for name in changed})


def as_message(pair: int, sequence: int, play: Play) -> tuple[object, ...]:
    started = BEGIN + SECONDS_APART * pair + play.start
    digest = hashlib.sha256(f"tautulli-import:{play.row_id}:{started}:{play.user}".encode())
    content = event(
        sequence,
        event_id=str(uuid.UUID(bytes=digest.digest()[:16], version=5)),
        source="tautulli-import",
        server_id=play.server,
        session_key=str(play.row_id),
        source_row_id=play.row_id,
        user_id=play.user,
        started_at=datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        rating_key=play.rating_key,
        guid=play.guid,
        live=play.live,
        machine_id=play.machine,
        title=play.title,
    )
    found = hash((play.title, play.rating_key, play.guid, play.live, play.machine)) % 2**64
    sent = message(sequence, content, import_id=f"import-{play.server}")
    return (*sent, ("content", f"{found} 1"))


def assert_pairs_are_right(
    connection: duckdb.DuckDBPyConnection, dice: random.Random, pairs: list[tuple[Play, Play]]
) -> None:
    for table in (
        *("playback_events", "playback_revisions", "event_aliases", "dedupe_audit_log"),
        *("stream_positions", "servers"),
    ):
        connection.execute(f"DELETE FROM {table}")
    count = len(pairs)
    cache = DedupCache(1e9, dice.choice((0, 4 * count)))
    messages = [
        as_message(place, sequence * count + place + 1, play)
        for sequence, plays in enumerate(zip(*pairs, strict=True))
        for place, play in enumerate(plays)
    ]
    if dice.random() < 0.5:
        halves = zip(messages[:count], messages[count:], strict=True)
        messages = [(n, *sent[1:]) for n, sent in enumerate(chain(*halves), 1)]
    for first in range(0, 2 * count, count):
        writer = Writer(connection, cache, STREAM, servers=SERVERS)
        writer.write(batch(messages[first : first + count]))
    found = rows(
        connection,
        f"SELECT (epoch(started_at)::BIGINT - {BEGIN}) // {SECONDS_APART} FROM playback_events",
    )
    stored = Counter(place for (place,) in found)
    wrong = [
        (stored[place], *pair)
        for place, pair in enumerate(pairs)
        if stored[place] != (1 if is_one(*pair) else 2)
    ]
    assert wrong == []


def run(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    dice = random.Random(seed)
    plays = [some_play(dice) for _ in range(PAIRS)]
    pairs = [(play, variant(dice, play)) for play in plays]
    assert_pairs_are_right(connection, dice, pairs)
    assert 200 < sum(is_one(*pair) for pair in pairs) < PAIRS - 200


def test_live_tv_is_never_the_same_by_its_guid(shared_warehouse):
    shown = Play("home", 1, 7, 0, None, "plex://movie/1", 1, "m-1", "One")
    recorded = shown._replace(row_id=2, live=0)
    elsewhere = shown._replace(server="cabin", live=0)
    pairs = [(shown, recorded), (recorded, shown), (shown, elsewhere), (elsewhere, shown)]
    assert not any(is_one(*pair) for pair in pairs)
    for seed in range(4):
        assert_pairs_are_right(shared_warehouse, random.Random(seed), pairs)


SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=2, **SHARED)
@given(st.integers(0, 2**32))
def test_different_plays_stay_two_and_renumbered_plays_become_one(shared_warehouse, seed):
    run(shared_warehouse, seed)


@pytest.mark.slow
@settings(max_examples=50, **SHARED)
@given(st.integers(0, 2**32))
def test_a_hundred_thousand_pairs_are_told_apart(seed):
    with memory_warehouse() as connection:  # deleted rows would stay in memory
        run(connection, seed)
