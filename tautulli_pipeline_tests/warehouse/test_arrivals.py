"""Counts of new rows since a given time, and of the whole table by month."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tautulli_pipeline.warehouse.arrivals import Arrivals, arrivals_since
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.warehouse.plays import STREAM, batch, event, message

FIRST, SECOND = datetime(2026, 1, 1, 12), datetime(2026, 1, 2, 12)
TICK = timedelta(microseconds=1)


def at(moment):
    return {"started_at": f"{moment}Z"}


@pytest.fixture(scope="module")
def two_arrivals(shared_warehouse):
    """Return a warehouse after one batch on each of two days."""
    first = [
        event(1, **at("2024-01-31T23:59:59")),
        event(2, **at("2024-02-01T00:00:00")),
    ]
    second = [
        event(3, **at("2023-12-31T23:59:59")),
        event(4, **at("2023-12-01T00:00:00")),
        event(5, **at("1969-07-20T20:17:40")),
        event(6, **at("2024-02-29T10:00:00")),
        event(7, event_id=event(3)["event_id"]),
        event(8, event_id=event(1)["event_id"]),
        event(9, event_id=event(4)["event_id"]),
        event(10, title=None),
    ]
    sequence = 0
    for now, events in [(FIRST, first), (SECOND, second)]:
        cache = DedupCache(1e9, 100)
        sent = [message(sequence + n, e) for n, e in enumerate(events, 1)]
        Writer(shared_warehouse, cache, STREAM, lambda now=now: now).write(batch(sent))
        sequence += len(events)
    return shared_warehouse


def test_everything_since_the_first_batch_is_counted_by_month(two_arrivals):
    assert arrivals_since(two_arrivals, FIRST) == Arrivals(
        stored=6,
        months=(
            ("1969-07", 1),
            ("2023-12", 2),
            ("2024-01", 1),
            ("2024-02", 2),
        ),
        span=(datetime(1969, 7, 20, 20, 17, 40), datetime(2024, 2, 29, 10)),
        discarded=(("cache", "event_id", 2), ("database", "event_id", 1)),
        dead_letters=1,
        row_count=6,
    )


def test_earlier_plays_count_only_in_the_figures_of_the_table(two_arrivals):
    since = arrivals_since(two_arrivals, FIRST + TICK)
    assert since.months == arrivals_since(two_arrivals, FIRST).months
    assert (since.stored, since.row_count, since.dead_letters) == (4, 6, 1)
    assert since == arrivals_since(two_arrivals, SECOND)


def test_without_new_plays_only_the_figures_of_the_table_remain(two_arrivals):
    table = arrivals_since(two_arrivals, FIRST)
    later = arrivals_since(two_arrivals, SECOND + TICK)
    assert later == replace(table, stored=0, discarded=(), dead_letters=0)
    assert not later.has_changes


def test_an_empty_table_has_no_span(warehouse):
    assert arrivals_since(warehouse, FIRST) == Arrivals(0, (), None, (), 0, 0)
