"""Compares the writer with a model that handles one message at a time."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    audit,
    batch,
    message,
    rows,
    uuid_of,
    writer,
)
from tautulli_pipeline_tests.warehouse.test_cache import Clock, NaiveCache, keys


class Model:
    """Gives each message one outcome, based on all earlier messages.

    Attributes:
        stored: the plays, by the sequence of their message.
        repeats: layer, reason and the plays that may be meant, by sequence.
        dead: the reasons of faulty messages, by sequence.
    """

    def __init__(self, entries):
        self.entries = entries
        self.stored, self.repeats, self.dead = {}, {}, {}
        self.corrected = defaultdict(set)
        self.restart()

    def restart(self):
        self.cache = NaiveCache(1e9, self.entries, Clock())

    def receive(self, sequence, event):
        if sequence in self.stored | self.dead:
            return
        if isinstance(event, bytes):
            self.dead[sequence] = "message is not JSON"
            return
        for name in ("started_at", "user_id", "title"):
            if name not in event:
                self.dead[sequence] = f"missing {name}"
                return
        found = self.duplicate_of(sequence, event)
        if found is not None:
            self.repeats.setdefault(sequence, []).append(found)
        elif sequence not in self.repeats:
            self.stored[sequence] = event
            self.cache.remember(keys_of(sequence, event))

    def duplicate_of(self, sequence, event):
        hit = self.cache.find(keys_of(sequence, event))
        if hit is not None:
            return "cache", hit[0], {hit[1].sequence}
        same = {
            "event_id": lambda known: known["event_id"] == event["event_id"],
            "correlation_key": lambda known: correlation_of(known) == correlation_of(event),
            "rating_key_user_started": lambda known: (
                item_of(event) is not None and item_of(known) == item_of(event)
            ),
        }
        for reason, is_match in same.items():
            for match, known in self.stored.items():
                if is_match(known):
                    return "database", reason, {match}
        corrected = self.corrected.get(item_of(event))
        return ("database", "rating_key_user_started", corrected) if corrected else None

    def learn(self, revisions):
        """Learn the items of revisions: (item, sequence of the play's message)."""
        for item, sequence in revisions:
            if item[0] is not None:
                self.corrected[item].add(sequence)


def item_of(event):
    """Return rating key, user and start; None without a rating key."""
    if "rating_key" not in event:
        return None
    return event["rating_key"], event["user_id"], event["started_at"][:-1]


def cross_source_of(event):
    item = event.get("rating_key") or hashlib.sha256(event["title"].encode()).hexdigest()[:16]
    machine, moment = event.get("machine_id", "unknown"), event["started_at"][:-1]
    return f"default:{event['user_id']}:{item}:{machine}:{moment}"


def correlation_of(event):
    computed = f"{event['source']}:{cross_source_of(event)}:{event.get('session_key', 'unknown')}"
    return event.get("correlation_key", computed)


def content_of(event):
    """Return what counts as content."""
    names = ("started_at", "user_id", "title", "rating_key", "machine_id")
    return tuple(event.get(name) for name in names)


def keys_of(sequence, event):
    session = None
    if "session_key" in event:
        session = f"{event['session_key']} {event['user_id']} {event['started_at']}"
    return keys(
        event["event_id"],
        correlation=correlation_of(event),
        session=session,
        cross=cross_source_of(event),
        source=event["source"],
        sequence=sequence,
    )


@st.composite
def events(draw):
    """Draw plays with so few keys that they collide in every combination.

    Keys of different seconds differ, as with all but odd producers: if a play matches two
    others, the writer looks for the one of another time only if there is no nearer one.
    """
    second = draw(st.integers(0, 1))
    fields = {
        "event_id": uuid_of(10 * second + draw(st.integers(0, 9))),
        "source": draw(st.sampled_from(["plex", "jellyfin", "tautulli"])),
        "started_at": f"2024-05-01T00:00:0{second}Z",
        "user_id": draw(st.integers(1, 2)),
        "title": draw(st.sampled_from(["one", "two"])),
    }
    for name, values in {
        "rating_key": ("1", "2"),
        "session_key": ("1", "2"),
        "machine_id": ("m",),
        "correlation_key": (f"given-{second}-1", f"given-{second}-2"),
    }.items():
        value = draw(st.sampled_from([None, *values]))
        if value is not None:
            fields[name] = value
    broken = draw(st.sampled_from([None] * 12 + ["started_at", "user_id", "title", "body"]))
    if broken == "body":
        return b"{not json"
    fields.pop(broken, None)
    return fields


# A delivery is a new event, or the index of an earlier one to redeliver.
deliveries = st.lists(st.one_of(events(), events(), st.integers(0, 30)), min_size=1, max_size=25)
# After a delivery, the batch continues, ends, or ends with a restart of the consumer.
boundaries = st.lists(
    st.sampled_from(["", "", "", "", "batch", "restart"]), min_size=25, max_size=25
)


def emptied(connection):
    for table in (
        *("playback_events", "playback_revisions", "dedupe_audit_log", "dead_letters"),
        *("servers", "stream_positions"),
    ):
        connection.execute(f"DELETE FROM {table}")


def batches(script, cuts):
    """Yield batches of (sequence, event), each with whether a restart follows."""
    seen, part = [], []
    for step, cut in zip(script, cuts, strict=False):
        if isinstance(step, int):
            if not seen:
                continue
            part.append(seen[step % len(seen)])
        else:
            seen.append((len(seen) + 1, step))
            part.append(seen[-1])
        if cut:
            yield part, cut == "restart"
            part = []
    yield part, False


def revised(connection):
    """Return (item, sequence of the play, own sequence, revision) of each revision, in order."""
    found = rows(
        connection,
        "SELECT v.rating_key, v.user_id, strftime(v.started_at, '%Y-%m-%dT%H:%M:%S'), "
        "p.stream_sequence, v.stream_sequence, v.revision "
        "FROM playback_revisions v JOIN playback_events p USING (id) ORDER BY id, revision",
    )
    return [((key, user, moment), *rest) for key, user, moment, *rest in found]


def assert_stored(connection, model):
    found = rows(
        connection,
        "SELECT stream_sequence, id, correlation_key, session_key, rating_key, title, stream_id "
        "FROM playback_events ORDER BY 1",
    )
    assert found == [
        (
            sequence,
            event["event_id"],
            correlation_of(event),
            event.get("session_key"),
            event.get("rating_key"),
            event["title"],
            STREAM,
        )
        for sequence, event in sorted(model.stored.items())
    ]
    dead = rows(connection, "SELECT stream_sequence, reason FROM dead_letters ORDER BY 1")
    assert dead == sorted(model.dead.items())


def assert_repeats_are_kept(connection, model, bodies):
    """Assert that every content of a play is kept, and that the audit has decisions only."""
    versions = {number: [(number, event)] for number, event in model.stored.items()}
    for _, play, number, revision in revised(connection):
        first, before, now = model.stored[play], versions[play][-1][1], bodies[number]
        assert any(play in matches for *_, matches in model.repeats[number])
        assert (revision, now["source"]) == (len(versions[play]), first["source"])
        assert (now["user_id"], now["started_at"]) == (first["user_id"], first["started_at"])
        assert content_of(now) != content_of(before)
        versions[play].append((number, now))
    logged = defaultdict(list)
    numbers = {event["event_id"]: number for number, event in model.stored.items()}
    for number, layer, reason, match in audit(connection):
        play = numbers[match]
        assert any(
            (layer, reason) == found and play in matches
            for *found, matches in model.repeats[number]
            for found in [tuple(found)]
        )
        logged[play].append((number, bodies[number]))
    for number, repeats in model.repeats.items():
        event = bodies[number]
        for _, reason, matches in repeats:
            kept = [pair for play in matches for pair in versions[play] + logged[play]]
            assert any(content_of(known) == content_of(event) for _, known in kept)
            if reason == "event_id":
                (play,) = matches
                is_exact = content_of(event) == content_of(model.stored[play])
                assert not (is_exact and number in dict(logged[play]))
            else:
                said = [(known["event_id"], content_of(known)) for _, known in kept]
                assert (event["event_id"], content_of(event)) in said


def assert_audit_is_whole(connection, model, bodies):
    details = (
        "SELECT a.stream_sequence, content_differs, discarded_payload, p.stream_sequence "
        "FROM dedupe_audit_log a JOIN playback_events p ON p.id = matched_event_id"
    )
    for number, differs, body, play in rows(connection, details):
        assert json.loads(body) == bodies[number]
        assert differs == (content_of(bodies[number]) != content_of(model.stored[play]))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deliveries, boundaries, st.sampled_from([0, 1, 3, 10_000]))
def test_every_message_has_the_same_outcome_as_in_the_model(
    shared_warehouse, script, cuts, entries
):
    emptied(shared_warehouse)
    model, under_test = Model(entries), writer(shared_warehouse, entries=entries)
    bodies = {}
    for part, restarts in batches(script, cuts):
        under_test.write(batch(message(*delivery) for delivery in part))
        for sequence, event in part:
            model.receive(sequence, event)
            bodies[sequence] = event
        # The keys of a revision lead to its play from the next batch on.
        model.learn((item, play) for item, play, *_ in revised(shared_warehouse))
        if restarts:
            under_test = writer(shared_warehouse, entries=entries)
            model.restart()
    assert_stored(shared_warehouse, model)
    assert_repeats_are_kept(shared_warehouse, model, bodies)
    assert_audit_is_whole(shared_warehouse, model, bodies)
