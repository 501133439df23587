"""Made-up plays are chronological, resume where they stopped, and are reproducible."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from tautulli_pipeline.demo.plays import plays
from tautulli_pipeline.demo.rows import HISTORY_COLUMNS, MEDIA_INFO_COLUMNS, METADATA_COLUMNS

STARTED_AT = 1_467_331_200


def history_of(play):
    return dict(zip(HISTORY_COLUMNS, play.history, strict=True))


@pytest.fixture(scope="module")
def generated():
    """Plays from a set so large that plays often overlap."""
    return list(islice(plays(100_000, seed=4, started_at=STARTED_AT), 1500))


@pytest.fixture(scope="module")
def history(generated):
    return [history_of(play) for play in generated]


def test_a_play_has_a_complete_row_with_the_same_id_in_each_table(generated):
    for play in generated:
        assert len(play.history) == len(HISTORY_COLUMNS)
        assert len(play.metadata) == len(METADATA_COLUMNS)
        assert len(play.media_info) == len(MEDIA_INFO_COLUMNS)
        assert play.history[0] == play.metadata[0] == play.media_info[0]


def test_viewers_alternate_and_at_most_two_plays_start_in_one_second(history):
    assert all(a["user_id"] != b["user_id"] for a, b in pairwise(history))
    assert all(a["started"] < c["started"] for a, c in zip(history, history[2:], strict=False))
    assert any(a["started"] == b["started"] for a, b in pairwise(history))


def test_the_length_of_a_play_is_its_progress_plus_pauses(history):
    by_id = {row["id"]: row for row in history}
    left_at = {}
    for row in history:
        viewer, resumed = row["user_id"], row["reference_id"] != row["id"]
        before = left_at.get(viewer) if resumed else None
        begin = before["view_offset"] if before else 0
        lasted = (row["view_offset"] - begin) // 1000 + row["paused_counter"]
        assert row["stopped"] - row["started"] == lasted >= 0
        if resumed:
            first = by_id[row["reference_id"]]
            assert first["id"] < row["id"]
            assert (first["rating_key"], first["user_id"]) == (row["rating_key"], viewer)
            assert before["stopped"] < row["started"]
            assert before["reference_id"] == row["reference_id"]
        left_at[viewer] = row


def test_no_offset_exceeds_the_duration(generated):
    ends = METADATA_COLUMNS.index("duration")
    for play in generated:
        length = play.metadata[ends] or 1_800_000
        assert 0 <= history_of(play)["view_offset"] <= length


def test_home_addresses_are_local_and_remote_connections_are_secure(history):
    assert {row["location"] for row in history} == {"lan", "wan"}
    for row in history:
        if row["ip_address"]:
            assert row["ip_address"].startswith("192.168.1.") is (row["location"] == "lan")
        assert row["secure"] in {None, int(row["location"] == "wan")}


def test_a_play_has_the_media_type_and_section_of_its_item(generated):
    kind, live = METADATA_COLUMNS.index("media_type"), METADATA_COLUMNS.index("live")
    for play in generated:
        row = history_of(play)
        assert row["media_type"] == play.metadata[kind]
        assert (row["section_id"] == 999_999) is (play.metadata[live] == 1)


def test_the_same_arguments_produce_the_same_plays():
    def few(**changes):
        arguments = {"seed": 4, "started_at": STARTED_AT} | changes
        return list(islice(plays(300, **arguments), 60))

    assert few() == few()
    assert few() != few(seed=5)
    moved = [history_of(play)["started"] - 100 for play in few(started_at=STARTED_AT + 100)]
    assert moved == [history_of(play)["started"] for play in few()]


def test_without_live_tv_nothing_is_live(history):
    live = METADATA_COLUMNS.index("live")
    assert {
        play.metadata[live] for play in plays(300, seed=1, started_at=STARTED_AT, live=False)
    } == {0}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_small_count_is_exact(count):
    assert len(list(plays(count, seed=0, started_at=STARTED_AT))) == count
