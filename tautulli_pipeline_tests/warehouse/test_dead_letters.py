"""Dead letters are written, replaced and closed as partitions settle, and listed."""

import json
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, REJECTED, ROWS
from tautulli_pipeline.warehouse.dead_letters import list_letters, show_letter
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.reading import Page
from tautulli_pipeline_tests.warehouse.plays import (
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)

BEGIN = datetime(2026, 1, 1)
STARTED = 1_714_521_601  # of event(1)


def record(row_id=1, *, started=str(STARTED), user_id="7", **others):
    history = {"id": str(row_id), "started": started, "user_id": user_id, "rating_key": "1"}
    return json.dumps({"session_history": history | others})


class Imports:
    """Runs imports, one per day."""

    def __init__(self, warehouse):
        self.warehouse, self.day = warehouse, 0

    def settle(self, *receipt_rows, server_id="default", day=None):
        self.day += 1
        table = pa.Table.from_pylist(list(receipt_rows), schema=ROWS)
        published_at = BEGIN + timedelta(days=day or self.day)
        import_id = f"import-{day or self.day}"
        entry = LedgerEntry(import_id, "0000000001-0000001000", server_id, published_at, table)
        Ledger(self.warehouse).settle([entry], published_at + timedelta(hours=1))

    def reject(self, record, row_id=1, reason="missing title", **options):
        row = {"source_row_id": row_id, "outcome": REJECTED, "reason": reason, "record": record}
        self.settle(row, **options)

    def import_play(self, row_id=1, outcome=PUBLISHED, **fields):
        content = event(1, source="tautulli-import", source_row_id=row_id, **fields)
        if outcome == PUBLISHED:
            import_id = f"import-{self.day + 1}"
            sent = message(100 + self.day, content, import_id=import_id)
            writer(self.warehouse, entries=0).write(batch([sent]))
        self.settle({"source_row_id": row_id, "event_id": content["event_id"], "outcome": outcome})


@pytest.fixture
def imports(warehouse):
    return Imports(warehouse)


def letters(warehouse):
    """Return (closed by, day it was closed, event id of its play), oldest first."""
    found = rows(
        warehouse,
        "SELECT closed_by, closed_at, closed_event_id FROM dead_letters ORDER BY created_at, id",
    )
    return [(by, at and (at - BEGIN).days, event_id) for by, at, event_id in found]


OPEN = (None, None, None)


def test_late_metadata_closes_the_letter(warehouse, imports):
    imports.reject(record())
    assert letters(warehouse) == [OPEN]
    imports.import_play()
    assert letters(warehouse) == [("import", 2, uuid_of(1))]
    imports.import_play(outcome=DUPLICATE)
    assert letters(warehouse) == [("import", 2, uuid_of(1))]


def test_a_play_that_is_a_duplicate_also_closes_its_letter(warehouse, imports):
    writer(warehouse).write(batch([message(1, event(1, event_id=uuid_of(2)))]))
    imports.reject(record())
    imports.import_play()
    assert letters(warehouse) == [("import", 2, uuid_of(2))]


@pytest.mark.parametrize(
    ("changes", "closes"),
    [
        pytest.param({"started": "0"}, True, id="the start was missing"),
        pytest.param({"user_id": ""}, True, id="the user was missing"),
        pytest.param({"user_id": "99999999999"}, True, id="the user was invalid"),
        pytest.param({"started": "0", "rating_key": "2"}, False, id="another item"),
        pytest.param({"user_id": "", "machine_id": "m-2"}, False, id="another player"),
        pytest.param(
            {"user_id": "", "rating_key": "", "machine_id": ""}, True, id="only the start"
        ),
        pytest.param({"rating_key": "2"}, True, id="the item got a new key"),
        pytest.param({"started": str(STARTED + 1)}, False, id="another start"),
        pytest.param({"user_id": "8"}, False, id="another user"),
        pytest.param({"started": "", "user_id": ""}, False, id="neither start nor user"),
    ],
)
def test_the_row_id_alone_does_not_identify_a_play(warehouse, imports, changes, closes):
    imports.reject(record(**changes))
    imports.import_play()
    assert letters(warehouse) == [("import", 2, uuid_of(1)) if closes else OPEN]


def test_rows_with_other_ids_or_servers_do_not_close_a_letter(warehouse, imports):
    imports.reject(record(2), row_id=2)
    imports.reject(record(), server_id="attic")
    imports.import_play()
    assert letters(warehouse) == [OPEN, OPEN]


def test_a_row_has_one_open_letter_with_its_current_content(warehouse, imports):
    before, after = record(), record(title="")
    imports.reject(before)
    imports.reject(after)
    superseded = ("superseded", 2, None)
    assert letters(warehouse) == [superseded, OPEN]
    # A restarted consumer settles the receipt of an earlier import again.
    imports.reject(before, day=1)
    assert letters(warehouse) == [superseded, OPEN]
    imports.reject(before)
    assert letters(warehouse) == [OPEN, ("superseded", 4, None)]
    imports.import_play()
    assert letters(warehouse) == [("import", 5, uuid_of(1)), ("superseded", 4, None)]


def test_an_earlier_import_does_not_close_a_later_letter(warehouse, imports):
    imports.import_play()
    imports.reject(record())
    imports.day = 0
    imports.import_play()
    assert letters(warehouse) == [OPEN]


def test_a_readable_message_closes_the_letter_of_the_broken_one(warehouse):
    def send(sequence, content, message_id):
        s, subject, import_id, _, body = message(sequence, content)
        writer(warehouse).write(batch([(s, subject, import_id, message_id, body)]))

    send(1, event(1, title=None), uuid_of(1))
    send(2, event(2, title=None), f"{uuid_of(2)}:1")
    send(3, event(3, title=None), "no id of an event")
    assert letters(warehouse) == [OPEN] * 3
    send(4, event(1), "another id")
    found = rows(warehouse, "SELECT closed_by, closed_event_id FROM dead_letters ORDER BY 2")
    assert found == [("import", uuid_of(1)), (None, None), (None, None)]


def test_a_writer_closes_a_letter_that_it_wrote_itself(warehouse):
    under_test = writer(warehouse)
    broken = (*message(1, event(1, title=None))[:3], uuid_of(1), b'{"event_id": "x"}')
    under_test.write(batch([broken]))
    assert letters(warehouse) == [OPEN]
    under_test.write(batch([message(2, event(1))]))
    assert [(by, event_id) for by, _, event_id in letters(warehouse)] == [("import", uuid_of(1))]


def test_lists_show_open_letters_and_their_reasons(warehouse, imports):
    imports.reject(record(title="Film"))
    imports.reject(record(2), row_id=2, reason="user_id is not a 32-bit integer: x")
    writer(warehouse).write(batch([message(1, event(3, title=None))]))
    imports.import_play()

    def listed(*, state="open", reason=None, **filters):
        listing = list_letters(warehouse, filters, Page(10), state=state, reason=reason)
        return [row["reason"] for row in listing.rows]

    assert sorted(listed()) == ["missing title", "user_id is not a 32-bit integer: x"]
    assert listed(reason="user_id is not") == ["user_id is not a 32-bit integer: x"]
    assert listed(origin="playback.plex.movie") == ["missing title"]
    assert listed(state="closed", import_id="import-1") == ["missing title"]
    assert len(listed(state="all")) == 3
    assert listed(reason="%'") == []


def test_a_list_names_the_plays_of_rows_and_of_messages(warehouse, imports):
    imports.reject(record(1, user="mira", player="TV", user_id=""), 1)
    imports.reject(record(2, started=str(2**62)), 2)
    named = {"username": "jo", "grandparent_title": "Severance", "player": "Web"}
    start = {"started_at": "2024-05-01T02:00:01+02:00"}
    unreadable = [message(1, event(1, user_id=None, **named, **start)), message(2, b"[" * 9)]
    writer(warehouse, entries=0).write(batch(unreadable))
    found = list_letters(warehouse, {}, Page(9), state="open", reason=None).rows
    names = ("title", "show", "user", "started_at", "player")
    started_at = datetime(2024, 5, 1, 0, 0, 1)
    shown = {(n["source_row_id"], n["stream_sequence"]): [n[k] for k in names] for n in found}
    assert shown == {
        (1, None): [None, None, "mira", started_at, "TV"],
        (2, None): [None, None, "7", None, None],
        (None, 1): ["Film 1", "Severance", "jo", started_at, "Web"],
        (None, 2): [None] * 5,
    }


def test_a_letter_is_shown_with_its_record(warehouse, imports):
    imports.reject(record())
    (row_id,) = rows(warehouse, "SELECT id FROM dead_letters")[0]
    assert show_letter(warehouse, row_id[:10]) == {
        "id": row_id,
        "title": None,
        "show": None,
        "user": "7",
        "started_at": datetime(2024, 5, 1, 0, 0, 1),
        "player": None,
        "reason": "missing title",
        "origin": "session_history",
        "source_row_id": 1,
        "server_id": "default",
        "import_id": "import-1",
        "message_id": None,
        "stream_id": None,
        "stream_sequence": None,
        "created_at": BEGIN + timedelta(days=1, hours=1),
        "replayed_at": None,
        "closed_at": None,
        "closed_by": None,
        "closed_event_id": None,
        "record": json.loads(record()),
    }
    with pytest.raises(ConfigurationError, match="there is no dead letter with the id 'xyz'"):
        show_letter(warehouse, "xyz")
