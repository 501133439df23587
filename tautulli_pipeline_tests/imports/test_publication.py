"""The stages of a publication side by side, and what is there but cannot be read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.errors import SourceDamagedError, StoppedError
from tautulli_pipeline.imports.consumer_protocol import Drained
from tautulli_pipeline.imports.coordinator import Import, ImportRequest, _Control
from tautulli_pipeline.imports.messages import PartitionWork
from tautulli_pipeline.imports.plan import Destination, Finished
from tautulli_pipeline.imports.publication import Publication, _ahead
from tautulli_pipeline.imports.receipts import ROWS, Receipt, ReceiptFolder
from tautulli_pipeline.imports.record import Fates
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.partitions import OTHER, Grid
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline_tests.command import wait_until


def making(count, made, *, fails_at=None):
    """Items, noted as they are made."""
    for number in range(count):
        if number == fails_at:
            raise SourceDamagedError("page 7 cannot be read")
        made.append(number)
        yield number


def nothing_is_made():
    return not any(thread.name == "read-and-map" for thread in threading.enumerate())


@pytest.mark.parametrize("count", [0, 1, 5])
def test_everything_comes_in_order_and_then_an_end(count):
    made = []
    with _ahead(making(count, made)) as items:
        assert list(items) == made == list(range(count))
    assert nothing_is_made()


def test_only_the_next_items_are_made_ahead():
    made = []
    with _ahead(making(10, made)) as items:
        assert next(items) == 0
        # One waits to be taken, one waits for its place.
        wait_until(lambda: len(made) == 3)
        assert not threading.Event().wait(0.05)
        assert made == [0, 1, 2]
        assert next(items) == 1
        wait_until(lambda: len(made) == 4)


def test_a_fault_is_raised_after_the_items_that_were_made_before_it():
    taken = []
    with _ahead(making(10, [], fails_at=3)) as items:
        with pytest.raises(SourceDamagedError, match="page 7"):
            taken.extend(item for item in items)
        assert taken == [0, 1, 2]
    assert nothing_is_made()


def test_no_more_items_are_made_once_nobody_takes_them():
    made = []
    with pytest.raises(KeyboardInterrupt), _ahead(making(10**6, made)):
        raise KeyboardInterrupt
    assert nothing_is_made()
    assert len(made) < 5


GRID = Grid(10)
partitions = st.one_of(
    st.just(OTHER), st.integers(0, 5).map(lambda n: GRID.partition_of(10 * n + 1))
)
ids = st.sets(st.integers(-5, 70) | st.integers(10**10 - 2, 10**10 + 5))


@settings(max_examples=100)
@given(partitions, ids)
def test_an_unreadable_play_belongs_to_the_partition_of_its_id(partition, unreadable):
    publication = Publication("import-1", "default", None, None, None, sorted(unreadable))
    found = publication._unreadable_of(PartitionWork(partition, 10))
    assert found == sorted(n for n in unreadable if GRID.partition_of(n) == partition)


CONTENTS = [PartitionContent(GRID.partition_of(10 * n + 1), n + 1, f"digest-{n}") for n in range(5)]
KEYS = [content.key for content in CONTENTS]
DESTINATION = Destination("default", "warehouse-1", "stream-1")


class WithoutStream:
    """Gives the receipts of partitions, each with a row of its own."""

    def publish(self, work):
        for part in work:
            rows = pa.Table.from_pylist([{"source_row_id": part.partition.last_id}], schema=ROWS)
            yield Receipt("import-1", part.key, "default", 1, datetime(2026, 1, 1), rows)


@dataclass
class History:
    """Remembers some partitions, and what `record` is told while `on_record` looks on."""

    known: dict[str, Finished]
    on_record: Callable[[Receipt], None] = lambda _receipt: None
    recorded: list[tuple[str, PartitionContent, Finished]] = field(default_factory=list)

    def grid(self):
        return None

    def finished(self):
        return self.known

    def show(self, keys):
        self.shown = list(keys)

    def record(self, receipt, content, finished):
        self.recorded.append((receipt.partition_key, content, finished))
        self.on_record(receipt)


@dataclass
class Running:
    """Notes what the record is told."""

    record: SimpleNamespace
    published_ids: list[int] = field(default_factory=list)
    is_complete: bool = False

    def cover(self, plan):
        self.covered = plan.covered

    def settled(self, outcome):
        assert not self.is_complete

    def published(self, receipt):
        self.published_ids.append(receipt.rows["source_row_id"][-1].as_py())

    def complete(self):
        self.is_complete = True


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """An import that has neither source nor stream, what it notes, and its way to stop."""
    monkeypatch.setattr(Import, "_publication", lambda _import: nullcontext(WithoutStream()))
    running = Running(SimpleNamespace(import_id="import-1", fresh=False))
    stop = Stop("the import was stopped", hint="import again to resume it")
    consumer = SimpleNamespace(
        require_alive=lambda: None,
        await_ready=lambda _require: SimpleNamespace(warehouse_id="warehouse-1"),
        drain=lambda _last_sequence, _require: Drained(Fates()),
    )
    made = Import(
        settings=Settings(pipeline_data_dir=tmp_path),
        request=ImportRequest(tmp_path / "tautulli.db", "default"),
        source=SimpleNamespace(naming_damage=nullcontext),
        contents=CONTENTS,
        running=running,
        session=SimpleNamespace(identity="stream-1", last_sequence=lambda: 5),
        consumer=consumer,
        control=_Control(stop, consumer, lambda _words: None),
    )
    return made, running, stop


def test_each_partition_is_recorded_once_its_receipt_is_stored(opened, tmp_path):
    made, running, _ = opened
    folder = ReceiptFolder(tmp_path / "receipts" / "import-1")

    def look(receipt):
        assert folder.read(receipt.partition_key) == receipt
        # The record tells of it only when Dagster remembers it.
        assert len(running.published_ids) == len(history.recorded) - 1

    earlier = {c.key: Finished("before", DESTINATION.version(c)) for c in CONTENTS[:2]}
    history = History(earlier, look)
    made.publish(history)
    assert history.recorded == [
        (content.key, content, Finished("import-1", DESTINATION.version(content)))
        for content in CONTENTS[2:]
    ]
    assert history.shown == KEYS
    assert running.published_ids == [30, 40, 50]
    assert (running.covered, running.is_complete) == (set(KEYS[2:]), True)
    assert not folder.path.exists()  # every row is settled


def test_an_import_that_is_asked_to_stop_finishes_the_current_partition(opened, tmp_path):
    made, running, stop = opened
    history = History({}, lambda _receipt: stop.request())
    with pytest.raises(StoppedError) as caught:
        made.publish(history)
    assert caught.value.hint == "import again to resume it"
    assert [key for key, *_ in history.recorded] == KEYS[:1]
    assert running.published_ids == [10]
    assert not running.is_complete
    receipts = tmp_path / "receipts" / "import-1"
    assert [path.name for path in receipts.iterdir()] == KEYS[:1]
