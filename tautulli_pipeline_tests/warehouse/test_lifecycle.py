"""Events from publish to table, through crashes, restarts and restores in any order.

A list with a window of message ids simulates the stream; everything else is real.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import product

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, ROWS
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.duplicates import confirm, restore
from tautulli_pipeline.warehouse.integrity import REPEATED_KEYS, UNBALANCED_PARTITIONS
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.warehouse.hooked_connection import HookedConnection
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    batch,
    event,
    memory_warehouse,
    message,
    rows,
    uuid_of,
)

OWN = "tautulli-import"
# Plays that share an item, user, second or session key, but never all of them.
PLAYS = list(product(("1", "2"), (1, 2), (0, 1)))
PARTITION = "0000000001-0000001000"
WINDOW_SECONDS = 120
BEGIN = datetime(2026, 1, 1)


def produced_by(source, number):
    """Return a producer's event for a play; each producer uses a different id."""
    item, user, second = PLAYS[number]
    offset = {OWN: 0, "plex": 100, "jellyfin": 200}[source]
    fields = {"source_row_id": number + 1} if source == OWN else {}
    return event(
        number,
        event_id=uuid_of(offset + number),
        source=source,
        session_key=item,
        user_id=user,
        rating_key=item,
        started_at=f"2024-05-01T00:00:0{second}Z",
        **fields,
    )


class CrashError(BaseException):
    """Simulates the death of the process, which no code can handle."""


class Lifecycle(RuleBasedStateMachine):
    """Each distinct play is stored once, plus the restored ones."""

    def __init__(self):
        super().__init__()
        self.opened = ExitStack()
        self.warehouse = self.opened.enter_context(memory_warehouse())
        self.seconds = 0.0
        self.stream = []
        self.message_ids = {}
        self.acked = self.committed = 0
        self.receipts = {}
        self.restored = set()
        self.restart()

    def teardown(self):
        self.opened.close()

    @rule()
    def restart(self):
        cache = DedupCache(WINDOW_SECONDS, 4, lambda: self.seconds)
        self.crash_due = False
        connection = HookedConnection(
            self.warehouse, "INSERT INTO stream_positions", self.crash_if_due
        )
        self.writer = Writer(connection, cache, STREAM, self.now)

    def crash_if_due(self):
        if self.crash_due:
            raise CrashError

    def now(self):
        return BEGIN + timedelta(seconds=self.seconds)

    @rule()
    def let_a_window_pass(self):
        self.seconds += WINDOW_SECONDS

    @rule(
        number=st.integers(0, len(PLAYS) - 1),
        source=st.sampled_from(["plex", "jellyfin", "plex", "jellyfin", OWN]),
    )
    def publish(self, number, source):
        """Publish an event, possibly one that was published before."""
        self.send(produced_by(source, number), None)

    @rule(numbers=st.sets(st.integers(0, len(PLAYS) - 1), min_size=1))
    def publish_an_import(self, numbers):
        import_id = f"import-{len(self.receipts) + 1}"
        self.receipts[import_id] = [
            {
                "source_row_id": number + 1,
                "event_id": uuid_of(number),
                "outcome": self.send(produced_by(OWN, number), import_id),
            }
            for number in sorted(numbers)
        ]

    def send(self, content, import_id):
        """Simulate layer 1: drop a message id that repeats within the window."""
        self.seconds += 0.01
        sent_at = self.message_ids.get(content["event_id"])
        if sent_at is not None and self.seconds - sent_at < WINDOW_SECONDS:
            return DUPLICATE
        self.message_ids[content["event_id"]] = self.seconds
        self.stream.append((content, import_id))
        return PUBLISHED

    def delivery(self, count):
        messages = []
        for sequence in range(self.acked + 1, min(self.acked + count, len(self.stream)) + 1):
            content, import_id = self.stream[sequence - 1]
            messages.append(message(sequence, content, import_id=import_id))
        return batch(messages), self.acked + len(messages)

    @precondition(lambda self: self.acked < len(self.stream))
    @rule(count=st.integers(1, 6))
    def consume(self, count):
        messages, last = self.delivery(count)
        self.writer.write(messages)
        self.acked = last
        self.committed = max(self.committed, last)

    @precondition(lambda self: self.acked < len(self.stream))
    @rule(count=st.integers(1, 6))
    def crash_before_commit(self, count):
        self.crash_due = True
        with pytest.raises(CrashError):
            self.writer.write(self.delivery(count)[0])
        self.restart()

    @precondition(lambda self: self.acked < len(self.stream))
    @rule(count=st.integers(1, 6))
    def crash_after_commit(self, count):
        messages, last = self.delivery(count)
        self.writer.write(messages)
        self.committed = max(self.committed, last)
        self.restart()

    def audit(self):
        return rows(
            self.warehouse,
            "SELECT id, stream_sequence, discarded_event_id, matched_event_id, dedupe_reason, "
            "status, import_id, discarded_payload FROM dedupe_audit_log ORDER BY stream_sequence",
        )

    @precondition(lambda self: self.audit())
    @rule(place=st.integers(0, 99))
    def restore(self, place):
        """Restore as another process would, while no consumer is running."""
        audit = self.audit()
        row_id, _, event_id, _, reason, *_ = audit[place % len(audit)]
        if reason == "event_id":
            with pytest.raises(ConfigurationError):
                restore(self.warehouse, [row_id], self.now())
            return
        stored = {name for (name,) in rows(self.warehouse, "SELECT id FROM playback_events")}
        ((_, added),) = restore(self.warehouse, [row_id], self.now())
        assert added == (event_id not in stored)
        if added:
            self.restored.add(event_id)
        self.restart()

    @precondition(lambda self: self.audit())
    @rule(place=st.integers(0, 99))
    def confirm(self, place):
        audit = self.audit()
        row_id, *_, status, _, _ = audit[place % len(audit)]
        if status == "user_restored":
            with pytest.raises(ConfigurationError):
                confirm(self.warehouse, [row_id], self.now())
        else:
            confirm(self.warehouse, [row_id], self.now())

    @precondition(lambda self: self.acked == len(self.stream))
    @rule()
    def settle(self):
        """Settle when everything is consumed: every row of every import has one outcome."""
        ledger = Ledger(self.warehouse)
        for import_id, receipt in self.receipts.items():
            table = pa.Table.from_pylist(receipt, schema=ROWS)
            entry = LedgerEntry(import_id, PARTITION, "default", self.now(), table)
            assert ledger.settle([entry], self.now()) == {}
            totals = ledger.totals(import_id)
            published = totals.pop("published")
            assert sum(totals.values()) == len(receipt)
            assert published == sum(row["outcome"] == PUBLISHED for row in receipt)
        assert rows(self.warehouse, UNBALANCED_PARTITIONS) == []

    @invariant()
    def each_distinct_play_is_stored_once_plus_restored_ones(self):
        stored = rows(
            self.warehouse,
            "SELECT stream_sequence, id, rating_key, user_id, second(started_at), "
            "restored_at IS NOT NULL FROM playback_events",
        )
        plays = [
            (item, user, second) for *_, item, user, second, restored in stored if not restored
        ]
        consumed = {_play(content) for content, _ in self.stream[: self.committed]}
        assert sorted(plays) == sorted(consumed)
        assert {event_id for _, event_id, *_, restored in stored if restored} == self.restored
        assert rows(self.warehouse, REPEATED_KEYS) == []

    @invariant()
    def each_message_has_one_outcome_and_the_audit_is_correct(self):
        audit = self.audit()
        found = rows(
            self.warehouse, "SELECT stream_sequence, id, restored_at IS NULL FROM playback_events"
        )
        outcomes = [sequence for sequence, _, own in found if own] + [line[1] for line in audit]
        assert sorted(outcomes) == list(range(1, self.committed + 1))
        stored = {event_id for _, event_id, _ in found}
        for _, sequence, discarded, matched, _, status, import_id, payload in audit:
            content, sent_by = self.stream[sequence - 1]
            assert (json.loads(payload), discarded) == (content, content["event_id"])
            assert import_id == sent_by
            assert matched in stored
            assert status != "user_restored" or discarded in stored
        positions = rows(self.warehouse, "SELECT last_sequence FROM stream_positions")
        assert positions == ([(self.committed,)] if self.committed else [])


def _play(content):
    return content["rating_key"], content["user_id"], int(content["started_at"][-2])


def test_each_distinct_play_is_stored_once():
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
