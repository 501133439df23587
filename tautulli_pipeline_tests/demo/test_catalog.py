"""Made-up items have complete rows, unique keys and consistent parents."""

from __future__ import annotations

from itertools import groupby

import pytest

from tautulli_pipeline.demo.catalog import make_catalog
from tautulli_pipeline.demo.dice import Dice
from tautulli_pipeline.demo.rows import METADATA_COLUMNS
from tautulli_pipeline.demo.viewers import LIVE_SECTION_ID, library_rows

SIZE = 400


@pytest.fixture(scope="module")
def catalog():
    return make_catalog(Dice(2), SIZE, live=True)


def row_of(item):
    return dict(zip(METADATA_COLUMNS[1:], item.metadata, strict=True))


def rows_of(catalog, kind):
    return [row_of(item) for item in catalog[kind]]


def test_each_kind_has_the_requested_size_and_at_least_four_items(catalog):
    sizes = {kind: len(items) for kind, items in catalog.items()}
    assert sizes == {"movie": 120, "episode": 180, "track": 80, "live": 20}
    few = make_catalog(Dice(2), 0, live=False)
    assert {kind: len(items) for kind, items in few.items()} == dict.fromkeys(
        ("movie", "episode", "track"), 4
    )


def test_keys_of_items_and_parents_are_unique(catalog):
    items = [item for kind in catalog.values() for item in kind]
    own = [item.rating_key for item in items]
    parents = {item.parent_rating_key for item in items} | {
        item.grandparent_rating_key for item in items
    }
    assert len(set(own)) == len(own)
    assert not set(own) & parents


def test_an_item_matches_its_row(catalog):
    sections = {row["section_id"] for row in library_rows()}
    for kind, items in catalog.items():
        for item in items:
            row = row_of(item)
            assert (item.media_type, item.rating_key) == (row["media_type"], row["rating_key"])
            assert item.live is (row["live"] == 1) is (kind == "live")
            assert item.length_ms == (row["duration"] or 1_800_000)
            assert item.section_id in sections
            assert (item.section_id == LIVE_SECTION_ID) is item.live


def test_a_season_has_ten_episodes_in_order_and_a_show_three_seasons(catalog):
    episodes = rows_of(catalog, "episode")
    seasons = [list(rows) for _, rows in groupby(episodes, lambda row: row["parent_rating_key"])]
    for season in seasons:
        assert [row["media_index"] for row in season] == list(range(1, 11))
        assert len({(row["grandparent_title"], row["parent_title"]) for row in season}) == 1
    shows = [list(rows) for _, rows in groupby(episodes, lambda row: row["grandparent_rating_key"])]
    for show in shows:
        assert [row["parent_media_index"] for row in show[::10]] == [1, 2, 3]
        assert all(r["full_title"] == f"{r['grandparent_title']} - {r['title']}" for r in show)


def test_an_album_has_twelve_tracks_of_one_artist(catalog):
    tracks = rows_of(catalog, "track")
    for _, rows in groupby(tracks[:72], lambda row: row["parent_rating_key"]):
        album = list(rows)
        assert [row["media_index"] for row in album] == list(range(1, 13))
        assert len({(row["grandparent_title"], row["parent_title"]) for row in album}) == 1


def test_picture_paths_use_the_keys_of_the_item_and_its_parents(catalog):
    for kind in ("movie", "episode"):
        for row in rows_of(catalog, kind):
            for picture, key in [
                ("thumb", "rating_key"),
                ("parent_thumb", "parent_rating_key"),
                ("grandparent_thumb", "grandparent_rating_key"),
            ]:
                begin = f"/library/metadata/{row[key]}/thumb/"
                assert row[picture].startswith(begin) if row[key] else row[picture] == ""


def test_credits_markers_are_ordered_and_within_the_duration(catalog):
    marked = [row for row in rows_of(catalog, "episode") if row["marker_credits_first"]]
    assert 20 < len(marked) < 90
    for row in marked:
        assert 0 < row["marker_credits_first"] < row["marker_credits_final"] < row["duration"]


def test_broadcasts_have_a_channel_and_some_have_no_duration(catalog):
    rows = rows_of(catalog, "live")
    assert all(row["channel_call_sign"] and row["channel_identifier"] for row in rows)
    assert 0 < [row["duration"] for row in rows].count(0) < len(rows)
    assert {row["media_type"] for row in rows} == {"movie", "episode"}
