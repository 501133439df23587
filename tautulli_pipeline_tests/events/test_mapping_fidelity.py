"""The mapping loses and changes no cell, compared with Tautulli's own answers."""

from __future__ import annotations

import random
import re

import pytest

from tautulli_pipeline.events.columns import COPIED
from tautulli_pipeline_tests import eras, tautulli_databases
from tautulli_pipeline_tests.eras import make_database, play
from tautulli_pipeline_tests.events.mapped import TABLES, cells, events
from tautulli_pipeline_tests.events.test_identity import FIRST_SECOND, LAST_SECOND, bucket

RENAMED = {
    "row_id": "source_row_id",
    "user": "username",
    "started": "started_at",
    "stopped": "stopped_at",
}
FLAGS = {"secure", "relayed"}
FIELDS = {column.source: column for column in COPIED}
SECTION_ID_TABLES = [(), ("session_history",), ("session_history_metadata",), TABLES[:2]]


def is_empty(value):
    return value is None or value == ""


def rfc3339(seconds):
    return f"{bucket(seconds)}Z"


def expected_cell(name, value):
    """Return the event's value for a cell of column `name` that fits the type."""
    if name in {"started", "stopped"}:
        in_calendar = value and FIRST_SECOND <= value <= LAST_SECOND
        return rfc3339(value) if in_calendar else "out of range"
    if name in FLAGS:
        return bool(value)
    return value if FIELDS[name].type in {"BIGINT", "INTEGER"} else str(value)


def oracle_cell(name, value):
    if name in {"row_id", "play_duration", "percent_complete", "watched_status", "friendly_name"}:
        return value
    return expected_cell(name, value)


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_every_row_equals_tautullis_answer(tmp_path, name):
    tautulli_databases.build(name, tmp_path / "tautulli.db")
    answer = tautulli_databases.answers(name)
    expected, found = {}, {}
    for row in answer:
        expected[row["row_id"]] = {
            RENAMED.get(name, name): oracle_cell(name, value)
            for name, value in row.items()
            if not is_empty(value)
        }
    for event in events(tmp_path / "tautulli.db"):
        names = {RENAMED.get(name, name) for name in answer[0]}
        found[event["source_row_id"]] = {n: v for n, v in event.items() if n in names}
    if all("live" not in row for row in found.values()):
        # The file has no `live` column; Tautulli adds it when it opens the copy.
        for row in expected.values():
            assert row.pop("live", 0) == 0
    assert {row_id: found[row_id] for row_id in expected} == expected


def is_text_of(text, value):
    """Whether `text` is SQLite's text form of `value`."""
    if isinstance(value, float) and re.fullmatch("[-0-9.e+]+", text):
        return float(text) == value
    return text == str(value)


def misplaced(event, table, name, value):
    """Whether a cell is neither in its field nor, as text, in `extra`."""
    field = FIELDS[name].name if name in FIELDS else f"{name}_at"
    kept = event.get("extra", {})
    texts = [str(event.get(field)), *(kept.get(n, "") for n in (name, field, f"{table}.{name}"))]
    whole = isinstance(value, int) and (name not in FLAGS or value in {0, 1})
    fits = whole and event.get(field) == expected_cell(name, value)
    return not fits and not any(is_text_of(text, value) for text in texts)


def lost_cells(path):
    """Return the non-empty cells of the three history tables that are not in their event."""
    by_id = {event["source_row_id"]: event for event in events(path)}
    stored = cells(path)
    assert by_id.keys() == stored.keys()
    assert stored
    return [
        (row_id, table, name, value)
        for row_id, tables in stored.items()
        for table, row in tables.items()
        for name, value in row.items()
        if name != "id" and not is_empty(value) and (name, value) != ("stopped", 0)
        if misplaced(by_id[row_id], table, name, value)
    ]


@pytest.mark.parametrize("tag", eras.TAGS)
def test_no_cell_of_any_era_is_lost(tmp_path, tag):
    path = tmp_path / "tautulli.db"
    eras.make_era_database(path, tag)
    assert lost_cells(path) == []


@pytest.mark.parametrize("tables", SECTION_ID_TABLES, ids=len)
def test_no_cell_of_a_half_migrated_database_is_lost(tmp_path, tables):
    path = tmp_path / "tautulli.db"
    eras.make_half_migrated_database(path, tables)
    assert lost_cells(path) == []


def test_no_cell_of_a_database_upgraded_in_one_jump_is_lost(tmp_path):
    path = tmp_path / "tautulli.db"
    eras.make_one_jump_database(path)
    assert lost_cells(path) == []


IDENTITY = {"id", "started", "user_id", "title"}
# Values that SQLite accepts in columns of any type.
ODD_CELLS = (
    *(None, "", 0, 1, -1, 2, 1.5, 1e20, 1e308, 2**31, 2**63 - 1, -(2**63), "0", "01", "1_0"),
    *("abc", "0x1", "\u0661", "nan", "inf", "true", " 5 x", "\x00", "a\x00b", "'\"\\", "\u2028"),
    *("\x01\n\t", "99999999999999999999x", "{}", "null"),
)


def test_no_cell_with_an_odd_value_is_lost(tmp_path):
    dice = random.Random(20_231_114)
    plays = [play(number) for number in range(1, 400)]
    for made in plays:
        for row in (made.history, made.metadata, made.media_info):
            odd = {name: dice.choice(ODD_CELLS) for name in row if dice.random() < 0.5}
            row |= {name: value for name, value in odd.items() if name not in IDENTITY}
    path = tmp_path / "tautulli.db"
    make_database(path, plays=plays)
    assert lost_cells(path) == []
