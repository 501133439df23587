"""Likely duplicates are listed in consistent pages, latest first."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tautulli_pipeline.warehouse.duplicates import list_near_matches
from tautulli_pipeline.warehouse.reading import Page
from tautulli_pipeline_tests.warehouse.plays import (
    batch,
    event,
    message,
    uuid_of,
    writer,
)

PAIRS = 6


@pytest.fixture(scope="module")
def pairs(shared_warehouse):
    """Return a warehouse with pairs of plays on different days; the last two start together."""
    plays = []
    for number in range(PAIRS):
        began = datetime(2024, 5, 1) + timedelta(days=min(number, PAIRS - 2))
        item = {"rating_key": f"film-{number}", "title": f"Film {number}"}
        for source, later in [("plex", 0), ("emby", 5)]:
            started = (began + timedelta(seconds=later)).isoformat() + "Z"
            play = event(2 * number + (source == "emby"), source=source, **item)
            plays.append(play | {"started_at": started})
    sent = [message(sequence, play) for sequence, play in enumerate(plays, 1)]
    writer(shared_warehouse, entries=0).write(batch(sent))
    return shared_warehouse


def numbers(listing):
    """Return the film number of each pair."""
    pairs = [(row["first_event_id"], row["second_event_id"]) for row in listing.rows]
    known = {(uuid_of(2 * n), uuid_of(2 * n + 1)): n for n in range(PAIRS)}
    return [known[pair] for pair in pairs]


def test_the_latest_pair_comes_first_and_the_order_is_stable(pairs):
    listing = list_near_matches(pairs, Page(100))
    assert (listing.total, numbers(listing)) == (6, [4, 5, 3, 2, 1, 0])


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_pages_are_contiguous_and_each_has_the_total(pairs, limit):
    pages = [list_near_matches(pairs, Page(limit, offset)) for offset in range(0, 8, limit)]
    assert {page.total for page in pages} == {6}
    assert [number for page in pages for number in numbers(page)] == [4, 5, 3, 2, 1, 0]
    assert list_near_matches(pairs, Page(limit, 6)).rows == []


def test_each_list_reflects_the_current_table(pairs):
    pairs.begin()
    pairs.execute("DELETE FROM playback_events WHERE title = 'Film 3'")
    assert numbers(list_near_matches(pairs, Page(2, 1))) == [5, 2]
    pairs.rollback()
    assert numbers(list_near_matches(pairs, Page(2, 1))) == [5, 3]
