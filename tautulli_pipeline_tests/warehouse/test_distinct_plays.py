"""Two plays are distinct unless item, user and start second are all equal."""

import pytest

from tautulli_pipeline_tests.warehouse.plays import (
    audit,
    batch,
    event,
    message,
    sequences,
    writer,
)

PLAY = event(1)
OTHER = event(2, user_id=8, machine_id="machine-2")
# The fields that a look-alike shares with the first play; all others differ.
SHARED = {
    "nothing": (),
    "the session key": ("session_key",),
    "the second": ("started_at",),
    "the item": ("rating_key", "title"),
    "the user": ("user_id",),
    "the machine": ("machine_id",),
    "session and machine": ("session_key", "machine_id"),
    "session, item, user and machine": (
        *("session_key", "rating_key", "title", "user_id", "machine_id"),
    ),
    "session, item, machine and second": (
        *("session_key", "rating_key", "title", "machine_id", "started_at"),
    ),
    "item, user and machine": ("rating_key", "title", "user_id", "machine_id"),
    "item, second and machine": ("rating_key", "title", "started_at", "machine_id"),
    "user, second and machine": ("user_id", "started_at", "machine_id"),
}


@pytest.mark.parametrize("entries", [0, 10_000], ids=["database", "cache"])
@pytest.mark.parametrize("source", ["plex", "jellyfin"])
@pytest.mark.parametrize("shared", SHARED)
def test_plays_that_share_only_some_fields_are_all_kept(emptied_warehouse, shared, source, entries):
    look_alike = OTHER | {"source": source} | {name: PLAY[name] for name in SHARED[shared]}
    under_test = writer(emptied_warehouse, entries=entries)
    under_test.write(batch([message(1, PLAY), message(2, look_alike)]))
    assert (sequences(emptied_warehouse), audit(emptied_warehouse)) == ([1, 2], [])


@pytest.mark.parametrize("together", [True, False])
def test_a_play_with_the_same_item_user_and_second_is_a_duplicate(emptied_warehouse, together):
    shared = ("rating_key", "title", "user_id", "started_at")
    same = OTHER | {"source": "emby"} | {name: PLAY[name] for name in shared}
    messages = [message(1, PLAY), message(2, same)]
    for part in [messages] if together else [messages[:1], messages[1:]]:
        writer(emptied_warehouse, entries=10_000).write(batch(part))
    assert sequences(emptied_warehouse) == [1]
    assert audit(emptied_warehouse) == [
        (2, "database", "rating_key_user_started", PLAY["event_id"])
    ]
