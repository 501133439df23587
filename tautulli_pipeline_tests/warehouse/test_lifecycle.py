"""Events from publish to table, through crashes, restarts and restores in any order.

A list with a window of message ids simulates the stream; everything else is real.
"""

from __future__ import annotations

import hashlib
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
SERVERS = ("a", "b")
# Plays that share an item, user, second or session key, but never all of them. User 1 is
# somebody else on each server.
PLAYS = list(product(("1", "2"), (1, 2), (0, 1)))
TITLES = ("A", "B", "C")
PARTITION = "0000000001-0000001000"
WINDOW_SECONDS = 120
BEGIN = datetime(2026, 1, 1)
# The newest start of a play in a file.
BACKUP, CURRENT = 1_600_000_000, 1_700_000_000


def produced_by(source, number, **fields):
    """Return a producer's event for a play; each producer uses a different id."""
    item, user, second = PLAYS[number]
    offset = {OWN: 0, "plex": 1_000_000, "jellyfin": 2_000_000}[source]
    given = {
        "event_id": uuid_of(offset + number),
        "source": source,
        "server_id": "a",
        "session_key": item,
        "user_id": user,
        "rating_key": item,
        "guid": f"plex://movie/{item}",
        "started_at": f"2024-05-01T00:00:0{second}Z",
    }
    return event(number, **given | fields)


def play_of(server, item, user, second):
    """Return what identifies a play."""
    return item, user, second, server if user == 1 else "any server"


def content_hash(content):
    """Return the hash of what counts as content."""
    names = ("title", "rating_key", "guid", "user_id", "started_at", "machine_id")
    text = json.dumps([content[name] for name in names])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


class File:
    """The database of one server; its rows can be edited and renumbered."""

    def __init__(self, server):
        self.server = server
        self.titles = dict.fromkeys(range(len(PLAYS)), "A")
        self.renumbered = self.rebuilt = 0
        self.published = {}

    def event(self, number, title=None):
        row_id = number + 1 + 20 * self.renumbered
        return produced_by(
            OWN,
            number,
            event_id=uuid_of(row_id),
            source_row_id=row_id,
            server_id=self.server,
            title=title or self.titles[number],
            rating_key=PLAYS[number][0] + "x" * self.rebuilt,
        )


class CrashError(BaseException):
    """Simulates the death of the process, which no code can handle."""


class Lifecycle(RuleBasedStateMachine):
    """Each distinct play is stored once, plus the restored ones, and shows its newest content."""

    def __init__(self):
        super().__init__()
        self.opened = ExitStack()
        self.warehouse = self.opened.enter_context(memory_warehouse())
        self.seconds = 0.0
        self.stream = []
        self.message_ids = {}
        self.acked = self.committed = 0
        self.receipts = {}
        self.restored, self.contents = set(), {}
        self.files = {server: File(server) for server in SERVERS}
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
        content = self.files["a"].event(number) if source == OWN else produced_by(source, number)
        self.send(content, None, content["event_id"])

    @rule(
        numbers=st.sets(st.integers(0, len(PLAYS) - 1), min_size=1),
        server=st.sampled_from(SERVERS),
        backup=st.sampled_from([None, None, None, *TITLES]),
    )
    def publish_an_import(self, numbers, server, backup):
        """Publish rows of a file, or of an old backup of it in which all titles are the same."""
        import_id = f"import-{len(self.receipts) + 1}"
        file, newest_start = self.files[server], BACKUP if backup else CURRENT
        events = {number: file.event(number, backup) for number in sorted(numbers)}
        receipt = []
        for number, content in events.items():
            found = content_hash(content)
            message_id = f"{content['event_id']}:{server}"
            # Each row is a partition of its own.
            if file.published.setdefault(number, found) != found:
                message_id += f":{found}:{import_id}"
            file.published[number] = found
            receipt.append(
                {
                    "source_row_id": content["source_row_id"],
                    "event_id": content["event_id"],
                    "content_hash": found,
                    "outcome": self.send(content, import_id, message_id, newest_start),
                }
            )
        self.receipts[import_id] = server, receipt

    @rule(
        server=st.sampled_from(SERVERS),
        numbers=st.sets(st.integers(0, len(PLAYS) - 1), min_size=1),
        title=st.sampled_from(TITLES),
    )
    def edit(self, server, numbers, title):
        self.files[server].titles |= dict.fromkeys(numbers, title)

    @rule(
        server=st.sampled_from(SERVERS),
        number=st.integers(0, len(PLAYS) - 1),
        titles=st.lists(st.sampled_from(TITLES), min_size=2, max_size=3),
    )
    def publish_edits(self, server, number, titles):
        """Publish a row after each of several edits, so that one batch may have all of them."""
        for title in titles:
            self.edit(server, {number}, title)
            self.publish_an_import({number}, server, None)

    @rule(server=st.sampled_from(SERVERS))
    def merge(self, server):
        """Renumber all rows, as a merge of databases in Tautulli does."""
        self.files[server].renumbered += 1

    @rule(server=st.sampled_from(SERVERS))
    def rebuild(self, server):
        """Give all rows and items other numbers, as with a rebuilt Plex server."""
        self.files[server].renumbered += 1
        self.files[server].rebuilt += 1

    def send(self, content, import_id, message_id, newest_start=None):
        """Simulate layer 1: drop a message id that repeats within the window."""
        self.seconds += 0.01
        sent_at = self.message_ids.get(message_id)
        if sent_at is not None and self.seconds - sent_at < WINDOW_SECONDS:
            return DUPLICATE
        self.message_ids[message_id] = self.seconds
        header = None if import_id is None else f"{content_hash(content)} {newest_start}"
        self.stream.append((content, import_id, header))
        return PUBLISHED

    def delivery(self, count):
        messages = []
        for sequence in range(self.acked + 1, min(self.acked + count, len(self.stream)) + 1):
            content, import_id, header = self.stream[sequence - 1]
            sent = message(sequence, content, import_id=import_id)
            messages.append((*sent, ("content", header)))
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
        row_id, _, event_id, _, reason, *_, payload = audit[place % len(audit)]
        if reason == "event_id":
            with pytest.raises(ConfigurationError):
                restore(self.warehouse, [row_id], self.now())
            return
        stored = {name for (name,) in rows(self.warehouse, "SELECT id FROM playback_events")}
        ((_, added),) = restore(self.warehouse, [row_id], self.now())
        assert added == (event_id not in stored)
        if added:
            self.restored.add(event_id)
            self.contents[event_id] = json.loads(payload)
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
        for import_id, (server, receipt) in self.receipts.items():
            table = pa.Table.from_pylist(receipt, schema=ROWS)
            entry = LedgerEntry(import_id, PARTITION, server, self.now(), table)
            assert ledger.settle([entry], self.now()) == {}
            totals = ledger.totals(import_id)
            published, revised = totals.pop("published"), totals.pop("revised")
            assert totals.pop("logged") <= len(receipt)
            stored = "SELECT count(*) FROM playback_events WHERE restored_at IS NULL AND import_id"
            assert rows(self.warehouse, f"{stored} = '{import_id}'") == [(totals["imported"],)]
            assert revised <= totals["duplicates_database"]
            assert sum(totals.values()) == len(receipt)
            assert published == sum(row["outcome"] == PUBLISHED for row in receipt)
        assert rows(self.warehouse, UNBALANCED_PARTITIONS) == []

    def consumed(self):
        """Return what was committed, in order."""
        return [content for content, *_ in self.stream[: self.committed]]

    @invariant()
    def each_distinct_play_is_stored_once_plus_restored_ones(self):
        stored = rows(
            self.warehouse,
            "SELECT id, server_id, rating_key, user_id, second(started_at), "
            "restored_at IS NOT NULL FROM playback_events",
        )
        plays = [
            play_of(server, item.rstrip("x"), user, second)
            for _, server, item, user, second, restored in stored
            if not restored
        ]
        assert sorted(plays) == sorted({_play(content) for content in self.consumed()})
        assert {event_id for event_id, *_, restored in stored if restored} == self.restored
        assert rows(self.warehouse, REPEATED_KEYS) == []

    @invariant()
    def each_play_shows_its_newest_content_and_keeps_the_first(self):
        found = rows(
            self.warehouse,
            "SELECT p.server_id, p.rating_key, p.user_id, second(p.started_at), p.title, "
            "p.stream_sequence, coalesce(v.title, p.title) FROM playback_events p LEFT JOIN ("
            "SELECT id, max_by(title, revision) AS title FROM playback_revisions GROUP BY id"
            ") v USING (id) WHERE p.restored_at IS NULL",
        )
        spoken = {}
        for content, import_id, header in self.stream[: self.committed]:
            play = content["server_id"], _play(content)
            if import_id is not None and int(header.split()[1]) == CURRENT:
                spoken[play] = content["title"]
            elif import_id is None and content["source"] == OWN:
                spoken.pop(play, None)  # it speaks too, but a backup may speak after it
        restored = {_play(self.contents[event_id]) for event_id in self.restored}
        for server, item, user, second, first, sequence, newest in found:
            play = play_of(server, item.rstrip("x"), user, second)
            assert first == self.stream[sequence - 1][0]["title"]
            if play not in restored:
                assert newest == spoken.get((server, play), newest)

    @invariant()
    def no_message_is_kept_twice_and_the_audit_has_no_exact_repeat(self):
        audit = self.audit()
        found = rows(
            self.warehouse, "SELECT stream_sequence FROM playback_events WHERE restored_at IS NULL"
        )
        kept = [sequence for (sequence,) in found] + [line[1] for line in audit]
        assert len(set(kept)) == len(kept)
        ids = rows(self.warehouse, "SELECT id FROM playback_events")
        for _, sequence, discarded, matched, reason, _, import_id, payload in audit:
            content, sent_by, _ = self.stream[sequence - 1]
            assert (json.loads(payload), discarded) == (content, content["event_id"])
            assert import_id == sent_by
            assert (matched,) in ids
            if reason == "event_id":
                ((first,),) = rows(
                    self.warehouse,
                    f"SELECT stream_sequence FROM playback_events WHERE id = '{matched}'",
                )
                assert content_hash(content) != content_hash(self.stream[first - 1][0])
        again = rows(
            self.warehouse,
            "SELECT matched_event_id FROM dedupe_audit_log WHERE discarded_source = "
            f"'{OWN}' AND dedupe_layer = 'database' "
            "GROUP BY matched_event_id, discarded_server_id, content_hash HAVING count(*) > 1",
        )
        assert again == []
        positions = rows(self.warehouse, "SELECT last_sequence FROM stream_positions")
        assert positions == ([(self.committed,)] if self.committed else [])


def _play(content):
    second = int(content["started_at"][-2])
    item = content["rating_key"].rstrip("x")
    return play_of(content["server_id"], item, content["user_id"], second)


def run(examples, steps):
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_each_distinct_play_is_stored_once():
    run(7, 20)


@pytest.mark.slow
def test_each_distinct_play_is_stored_once_in_long_lives():
    run(40, 60)
