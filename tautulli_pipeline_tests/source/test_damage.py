"""Descriptions of damage: the number of rows, their table and ids, and the cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tautulli_pipeline.errors import SourceDamagedError, SourceError
from tautulli_pipeline.source.damage import SALVAGE_HINT, Damage, damaged, in_words

MALFORMED = "database disk image is malformed"
GIVEN = Path("/home/me/tautulli.db")


def damage(*spans, table="session_history", ids=None):
    """Return damage in which every id of each span is lost."""
    lost = tuple(i for first, last in spans for i in range(first, last + 1))
    return Damage(table, lost if ids is None else ids, spans, MALFORMED)


def description(*spans, **fields):
    return in_words(damage(*spans, **fields).facts())


def test_facts_are_json_with_row_count_and_id_ranges():
    facts = damage((3, 3), (7, 9)).facts()
    assert json.loads(json.dumps(facts)) == {
        "table": "session_history",
        "rows": 4,
        "ids": ["3", "7-9"],
        "cause": MALFORMED,
    }


def test_a_range_may_have_fewer_rows_than_ids():
    assert damage((10, 20), ids=(10, 20)).facts() | {"cause": ""} == {
        "table": "session_history",
        "rows": 2,
        "ids": ["10-20"],
        "cause": "",
    }


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([(5, 5)], "1 row of session_history, id 5"),
        ([(5, 6)], "2 rows of session_history, id 5-6"),
        ([(1, 1), (1001, 2999)], "2,000 rows of session_history, id 1, 1001-2999"),
        ([(-3, -2)], "2 rows of session_history, id -3--2"),
    ],
)
def test_the_description_counts_rows_and_lists_ids(spans, words):
    assert description(*spans) == f"{words} ({MALFORMED})"


def test_rows_with_unknown_ids_are_reported_without_a_count():
    assert description(table="users") == (f"an unknown number of rows of users ({MALFORMED})")


@pytest.mark.parametrize(("places", "more"), [(50, 0), (51, 1), (500, 450)])
def test_at_most_fifty_ranges_are_listed(places, more):
    words = description(*((2 * i, 2 * i) for i in range(places)))
    tail = f" and {more} more ranges ({MALFORMED})" if more else f"98 ({MALFORMED})"
    assert words.endswith(tail)
    assert words.startswith(f"{places} rows of session_history, id 0, 2, ")
    assert words.count(", ") == 50


def test_the_error_lists_all_damage_and_has_a_hint():
    fault = damaged(GIVEN, [damage((1, 2)), damage(table="users")])
    assert isinstance(fault, SourceDamagedError)
    assert isinstance(fault, SourceError)
    assert (
        fault.message
        == f"cannot read all of {GIVEN}: {description((1, 2))}; {description(table='users')}"
    )
    assert fault.hint == SALVAGE_HINT
    assert "--salvage" in fault.hint
