"""Compares the writer with a model that handles one message at a time."""

from __future__ import annotations

import hashlib
import json

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
    """Gives each message one outcome, based on all earlier messages."""

    def __init__(self, entries):
        self.entries = entries
        self.stored, self.audit, self.dead = {}, {}, {}
        self.restart()

    def restart(self):
        self.cache = NaiveCache(1e9, self.entries, Clock())

    def receive(self, sequence, event):
        if sequence in self.stored | self.audit | self.dead:
            return
        if isinstance(event, bytes):
            self.dead[sequence] = "message is not JSON"
            return
        for name in ("started_at", "user_id", "title"):
            if name not in event:
                self.dead[sequence] = f"missing {name}"
                return
        found = self.duplicate_of(sequence, event)
        if found is None:
            self.stored[sequence] = event
            self.cache.remember(keys_of(sequence, event))
        else:
            layer, reason, match = found
            differs = content_of(event) != content_of(self.stored[match])
            self.audit[sequence] = (layer, reason, self.stored[match]["event_id"], differs)

    def duplicate_of(self, sequence, event):
        hit = self.cache.find(keys_of(sequence, event))
        if hit is not None:
            return "cache", hit[0], hit[1].sequence
        same = {
            "event_id": lambda known: known["event_id"] == event["event_id"],
            "correlation_key": lambda known: correlation_of(known) == correlation_of(event),
            "rating_key_user_started": lambda known: (
                "rating_key" in event
                and all(
                    known.get(name) == event[name]
                    for name in ("rating_key", "user_id", "started_at")
                )
            ),
        }
        return next(
            (
                ("database", reason, match)
                for reason, is_match in same.items()
                for match, known in self.stored.items()
                if is_match(known)
            ),
            None,
        )


def cross_source_of(event):
    item = event.get("rating_key") or hashlib.sha256(event["title"].encode()).hexdigest()[:16]
    machine, moment = event.get("machine_id", "unknown"), event["started_at"][:-1]
    return f"default:{event['user_id']}:{item}:{machine}:{moment}"


def correlation_of(event):
    computed = f"{event['source']}:{cross_source_of(event)}:{event.get('session_key', 'unknown')}"
    return event.get("correlation_key", computed)


def content_of(event):
    content = event | {"correlation_key": correlation_of(event)}
    del content["event_id"]
    return content


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
    for table in ("playback_events", "dedupe_audit_log", "dead_letters", "stream_positions"):
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


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deliveries, boundaries, st.sampled_from([0, 1, 3, 10_000]))
def test_every_message_has_the_same_outcome_as_in_the_model(
    shared_warehouse, script, cuts, entries
):
    emptied(shared_warehouse)
    model, under_test = Model(entries), writer(shared_warehouse, entries=entries)
    for part, restarts in batches(script, cuts):
        under_test.write(batch(message(*delivery) for delivery in part))
        for sequence, event in part:
            model.receive(sequence, event)
        if restarts:
            under_test = writer(shared_warehouse, entries=entries)
            model.restart()
    assert rows(
        shared_warehouse,
        "SELECT stream_sequence, id, correlation_key, session_key, rating_key, title, stream_id "
        "FROM playback_events ORDER BY 1",
    ) == [
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
    assert audit(shared_warehouse) == [
        (s, *outcome[:3]) for s, outcome in sorted(model.audit.items())
    ]
    details = "SELECT stream_sequence, content_differs, discarded_payload FROM dedupe_audit_log"
    bodies = dict(delivery for part, _ in batches(script, cuts) for delivery in part)
    assert [
        (s, differs, json.loads(body))
        for s, differs, body in rows(shared_warehouse, f"{details} ORDER BY 1")
    ] == [(s, outcome[3], bodies[s]) for s, outcome in sorted(model.audit.items())]
    dead = rows(shared_warehouse, "SELECT stream_sequence, reason FROM dead_letters ORDER BY 1")
    assert dead == sorted(model.dead.items())
