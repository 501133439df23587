"""Made-up viewers and libraries in the small tables and in the plays."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tautulli_pipeline.demo.dice import Dice
from tautulli_pipeline.demo.viewers import SERVER_ID, library_rows, make_viewers, user_rows


@pytest.fixture(scope="module")
def viewers():
    return make_viewers(Dice(9))


def test_exactly_one_viewer_has_no_users_row(viewers):
    listed = {row["user_id"]: row for row in user_rows()}
    unlisted = [viewer.username for viewer in viewers if viewer.user_id not in listed]
    assert unlisted == ["never.listed"]
    assert len(listed) == len(viewers) - 1
    for viewer in viewers:
        if viewer.user_id in listed:
            row = listed[viewer.user_id]
            named = (row["username"], row["friendly_name"])
            assert named == (viewer.username, viewer.friendly_name)


def test_local_has_three_cells_and_all_others_a_full_row():
    local, *others = user_rows()
    assert local == {"user_id": 0, "username": "Local", "friendly_name": None}
    assert len({frozenset(row) for row in others}) == 1
    assert [row["username"] for row in others if row["is_admin"]] == ["mira"]
    gone = [row["username"] for row in others if row["deleted_user"]]
    assert gone == ["left.long.ago"] == [r["username"] for r in others if not r["is_active"]]
    secrets = [row[name] for row in others for name in ("user_token", "server_token")]
    assert len(set(secrets)) == len(secrets)
    assert all(secret.startswith("made-up-") for secret in secrets)
    assert all(row["email"].endswith("@example.com") for row in others)


def test_every_viewer_has_three_players_with_reserved_addresses(viewers):
    players = [player for viewer in viewers for player in viewer.players]
    assert {len(viewer.players) for viewer in viewers} == {3}
    assert len({player.machine_id for player in players}) == len(players)
    for player in players:
        address = ip_address(player.ip_address)
        assert address.is_private
        assert str(address).startswith("192.168.1.") is (player.location == "lan")


def test_each_library_has_its_own_section_and_one_is_deleted():
    rows = library_rows()
    assert len({row["section_id"] for row in rows}) == len(rows) == 6
    assert {row["server_id"] for row in rows} == {SERVER_ID}
    assert [row["section_name"] for row in rows if row["deleted_section"]] == ["Old Films"]
    assert all(row["thumb"] == f"/:/resources/{row['section_type']}.png" for row in rows)
