"""Mapping the rows of dead letters again."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports.rejected_rows import RejectedRow, RowSource, _ranges, map_rows
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.reader import open_reader
from tautulli_pipeline.warehouse.dead_letters import Letter
from tautulli_pipeline_tests.cases import make_database, play

TABLES = ("session_history", "session_history_metadata", "session_history_media_info")


def record_of(made, *, leave_out=()):
    """Return the raw record of a play, with its values as text."""
    rows = (made.history, made.metadata, made.media_info)
    return json.dumps(
        {
            table: {
                name: None if value is None else str(value)
                for name, value in row.items()
                if name not in leave_out
            }
            for table, row in zip(TABLES, rows, strict=True)
            if row is not None
        }
    )


def letter(number, row_id, record="{}"):
    return Letter(str(number), "source", "reason", record, "default", row_id, None, None, None)


def mapped(*rows):
    found = map_rows(rows, ["default"] * len(rows))
    return [(one.reason, one.payload and json.loads(one.payload)["title"]) for one in found]


def test_a_record_maps_like_its_original_row():
    good, bad = play(1, title="Ærø"), play(2, title="")
    rows = [RejectedRow.of_record(record_of(made)) for made in (good, bad)]
    assert mapped(*rows) == [(None, "Ærø"), ("missing title", None)]


def test_a_rejected_row_has_a_reason_and_no_payload():
    found = map_rows([RejectedRow.of_record(record_of(play(1, started=0)))], ["default"])
    assert [(one.reason, one.payload) for one in found] == [("missing start", None)]


def test_rows_keep_their_order_across_columns_and_servers():
    plays = [play(n, title=f"Film {n}") for n in range(6)]
    rows = [
        RejectedRow.of_record(record_of(made, leave_out=("guid", "secure") if n % 2 else ()))
        for n, made in enumerate(plays)
    ]
    servers = ["one", "one", "two", "two", "one", "two"]
    found = map_rows(rows, servers)
    payloads = [json.loads(one.payload) for one in found]
    assert [payload["title"] for payload in payloads] == [f"Film {n}" for n in range(6)]
    assert [payload["server_id"] for payload in payloads] == servers
    assert ["secure" in payload for payload in payloads] == [True, False] * 3


def test_no_rows_map_to_nothing():
    assert map_rows([], []) == []


def test_a_record_without_side_tables_has_no_columns_for_them():
    row = RejectedRow.of_record(json.dumps({"session_history": {"id": "1", "started": "5"}}))
    assert row.columns == {"session_history": ("id", "started")}
    assert row.cells["session_history.id"] == "1"
    (found,) = map_rows([row], ["default"])
    assert found.reason is not None


@settings(max_examples=60)
@given(st.lists(st.none() | st.integers(-3000, 3000), max_size=12))
def test_every_letter_with_a_row_id_is_in_exactly_one_narrow_range(row_ids):
    letters = [letter(n, row_id) for n, row_id in enumerate(row_ids)]
    found = list(_ranges(letters))
    listed = [one for _, some in found for one in some]
    assert sorted(one.id for one in listed) == sorted(
        one.id for one in letters if one.source_row_id is not None
    )
    for ids, some in found:
        assert ids.last - ids.first < 1000
        assert all(ids.first <= one.source_row_id <= ids.last for one in some)
    ends = [edge for ids, _ in found for edge in (ids.first, ids.last)]
    assert ends == sorted(ends)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The rows of a database whose third play was replaced by another."""
    folder = tmp_path_factory.mktemp("source")
    other = play(3, started=1_600_000_000, rating_key=999, user_id=0, machine_id="another")
    plays = [play(1), play(2, title="fixed"), other, play(2500)]
    make_database(folder / "tautulli.db", plays=plays)
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(folder / "tautulli.db", folder / "snapshots"))
        copy = opened.snapshot
        reader = stack.enter_context(open_reader(copy.path, opened.schema, named=copy.source))
        yield RowSource(reader, opened.schema)


def test_rows_are_read_again_if_they_are_still_the_same_play(source):
    letters = [letter(n, n, record_of(play(n, title=""))) for n in (2500, 2, 3, 4)]
    twice = replace(letters[1], id="again")
    letters += [twice, replace(twice, id="none", source_row_id=None)]
    found = source.read(letters)
    assert found.keys() == {"2500", "2", "again"}
    assert mapped(*(found[name] for name in ("2", "again", "2500"))) == [
        (None, "fixed"),
        (None, "fixed"),
        (None, "Film 2500"),
    ]
    assert json.loads(found["2"].record)["session_history_metadata"]["title"] == "fixed"
