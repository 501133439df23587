"""One import with a real source and stream; only the consumer is fake, so that it can lose rows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from tautulli_pipeline.errors import (
    ConfigurationError,
    ImportRunningError,
    PipelineError,
    SourceError,
    StoppedError,
    StreamError,
    WarehouseError,
    WarehouseHeldError,
)
from tautulli_pipeline.imports.consumer_protocol import Drained, Ready
from tautulli_pipeline.imports.coordinator import (
    Import,
    ImportRequest,
    each_once,
    open_import,
)
from tautulli_pipeline.imports.known_warehouse import KnownWarehouse
from tautulli_pipeline.imports.plan import Destination, Finished
from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.stream.session import open_publishing
from tautulli_pipeline_tests.cases import make_database, play

ROWS, WIDTH = 25, 10
PLAYS = [play(n) for n in range(1, ROWS + 1)]
KEYS = [Grid(WIDTH).partition_of(n).key for n in (1, 11, 21)]


@dataclass
class Consumer:
    """A consumer that reports these rows as missing, one entry per drain, and then none."""

    stop: Stop
    lost: list[dict[str, list[int]]] = field(default_factory=list)
    fault: PipelineError | None = None
    covered: set[str] = field(default_factory=set)
    warehouse_id: str = "warehouse-1"
    held: WarehouseHeldError | None = None
    begun: int = 0
    waited: list[float] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)
    stored_as: str = "default"

    def begin(self, _import_id, sample):
        self.begun += 1
        self.sample = list(sample)

    def name(self, names):
        self.named = names

    def require_not_held(self, _wait_seconds):
        if self.held is not None:
            raise self.held

    def require_running(self):
        self.stop.require_none()
        if self.fault is not None:
            raise self.fault

    def await_ready(self, wait_seconds):
        assert self.begun == 1
        self.require_running()
        self.waited.append(wait_seconds)
        self.require_not_held(wait_seconds)
        sampled = len(self.sample)
        return Ready(self.warehouse_id, [self.stored_as], sampled, {self.stored_as: sampled})

    def cover(self, partitions):
        self.covered = set(partitions)

    def drain(self, _last_sequence):
        self.require_running()
        missing = self.lost.pop(0) if self.lost else {}
        return Drained(Outcomes(imported=ROWS - sum(map(len, missing.values()))), missing)


@dataclass
class History:
    """A history with known partitions; records calls and notifies the test."""

    known: dict[str, Finished] = field(default_factory=dict)
    recorded: list[tuple[str, dict[int, str], Finished]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def grid(self):
        return Grid(WIDTH)

    def finished(self, _place, _earlier):
        return self.known

    def show(self, keys, _place):
        self.shown = list(keys)

    def record(self, receipt, content, finished):
        assert content.key == receipt.partition_key
        outcomes = receipt.rows.to_pydict()
        found = dict(zip(outcomes["source_row_id"], outcomes["outcome"], strict=True))
        self.recorded.append((receipt.partition_key, found, finished))
        self.on_record(receipt)

    def on_record(self, receipt):
        """Do nothing; tests replace this hook."""


class Harness:
    """An import and its collaborators, for a test."""

    def __init__(self, settings, running, session):
        self.settings = settings
        self.running = running
        self.session = session
        self.stop = Stop("the import was stopped", hint="import again to resume it")
        self.consumer = Consumer(self.stop)
        self.history = History()
        self.said = []
        self.opened = None

    @property
    def receipts(self):
        return ReceiptFolder(self.settings.layout.receipts / self.running.record.import_id)

    def destination(self):
        return Destination("default", "warehouse-1", self.session.identity)


@pytest.fixture
def harness(tmp_path, database, address):
    """An import of 25 plays with a fake consumer."""
    settings = Settings(pipeline_data_dir=tmp_path, import_batch_size=WIDTH)
    log = ImportLog(tmp_path)
    with (
        log.exclusive(database),
        open_source(database, settings.layout.snapshots) as source,
        open_publishing(address) as session,
    ):
        running = RunningImport(
            log,
            ImportRecord.begin(database, "default", fresh=False),
            unreadable=(),
            began_at=0.0,
            observe=lambda _record: None,
        )
        harness = Harness(settings, running, session)
        harness.opened = Import(
            settings=settings,
            request=ImportRequest(database, "default"),
            source=source,
            contents=None,
            running=running,
            session=session,
            warehouse=KnownWarehouse(settings),
            consumer=harness.consumer,
            stop=harness.stop,
            say=harness.said.append,
        )
        yield harness


def keys_of(recorded):
    return [key for key, *_ in recorded]


def test_each_partition_is_recorded_once_its_receipt_is_stored(harness):
    content = {c.key: c for c in harness.opened.source.survey(Grid(WIDTH), WIDTH)}
    versions = {key: harness.destination().version(found) for key, found in content.items()}
    harness.history.known = {KEYS[0]: Finished("before", versions[KEYS[0]])}

    def look(receipt):
        stored = harness.receipts.read(receipt.partition_key)
        assert stored == replace(receipt, seconds=0.0)
        # The import record advances only after the history has recorded the partition.
        assert harness.running.record.last_processed_id < receipt.rows["source_row_id"][0].as_py()

    harness.history.on_record = look
    harness.opened.publish(harness.history)
    import_id = harness.running.record.import_id
    assert harness.history.shown == KEYS
    assert [(key, finished) for key, _, finished in harness.history.recorded] == [
        (key, Finished(import_id, versions[key])) for key in KEYS[1:]
    ]
    assert harness.consumer.covered == set(KEYS[1:])
    record = harness.running.record
    assert (record.status, record.last_processed_id) == (Status.COMPLETED, ROWS)
    assert (record.total_records, record.unchanged, record.pending) == (15, 10, 0)
    assert not harness.receipts.path.exists()  # every row is settled


def test_a_stop_finishes_the_current_partition(harness):
    harness.history.on_record = lambda _receipt: harness.stop.request()
    with pytest.raises(StoppedError) as caught:
        harness.opened.publish(harness.history)
    assert caught.value.hint == "import again to resume it"
    assert keys_of(harness.history.recorded) == KEYS[:1]
    assert harness.running.record.last_processed_id == WIDTH
    assert harness.running.record.status is Status.RUNNING
    assert [path.name for path in harness.receipts.path.iterdir()] == KEYS[:1]


def test_a_consumer_that_fails_ends_the_import_at_the_next_partition(harness):
    def fail(_receipt):
        harness.consumer.fault = WarehouseError("the warehouse is full")

    harness.history.on_record = fail
    with pytest.raises(WarehouseError, match="is full"):
        harness.opened.publish(harness.history)
    assert keys_of(harness.history.recorded) == KEYS[:1]


def test_only_chosen_partitions_are_published(harness):
    plan = harness.opened.prepare(harness.history, [KEYS[2], KEYS[0]])
    assert plan is harness.opened.prepare(harness.history)
    harness.opened.publish(harness.history)
    assert keys_of(harness.history.recorded) == [KEYS[0], KEYS[2]]
    record = harness.running.record
    assert (record.total_records, record.unchanged, record.pending) == (15, 0, 10)


def test_rows_that_arrived_are_not_published_again(harness):
    harness.opened.publish(harness.history)
    assert keys_of(harness.history.recorded) == KEYS
    assert harness.said == []


def test_only_lost_rows_are_published_again_and_as_new_messages(harness):
    # A partition that the source no longer has is skipped.
    harness.consumer.lost = [{KEYS[0]: [1, 2, 3], "0000000091-0000000100": [95]}, {KEYS[0]: [1, 2]}]
    harness.opened.publish(harness.history)
    again = harness.history.recorded[3:]
    assert keys_of(again) == [KEYS[0], KEYS[0]]
    # The stream accepted exactly these, although it still knows the ids of their first messages.
    for (_, outcomes, _), sent in zip(again, ({1, 2, 3}, {1, 2}), strict=True):
        assert {n for n, outcome in outcomes.items() if outcome == "published"} == sent
        assert set(outcomes) == set(range(1, WIDTH + 1))
    assert harness.session.last_sequence() == ROWS + 5
    assert harness.said == [
        "3 events were lost on the stream; publishing them again",
        "2 events were lost on the stream; publishing them again",
    ]
    assert harness.running.record.status is Status.COMPLETED


def losing(*counts):
    return [{KEYS[0]: list(range(1, count + 1))} for count in counts]


def test_it_keeps_republishing_while_fewer_rows_are_missing(harness):
    harness.consumer.lost = losing(*range(10, 0, -1))
    harness.opened.publish(harness.history)
    assert len(harness.history.recorded) == 3 + 10
    assert harness.running.record.outcomes.imported == ROWS


@pytest.mark.parametrize("lost", [(2,) * 9, (2, 5, 3, 2, 1), (3, 2, 2, 2, 2, 1)])
def test_it_gives_up_after_three_rounds_without_progress(harness, lost):
    harness.consumer.lost = losing(*lost)
    with pytest.raises(StreamError) as caught:
        harness.opened.publish(harness.history)
    assert caught.value.message == "2 events could not be delivered after 3 attempts"
    assert "NATS_DURABLE_NAME" in caught.value.hint


def not_called(words):
    """Fail if it is called."""
    raise AssertionError(words)


def test_a_repeated_wait_message_is_reported_once_until_it_changes():
    received = []
    say = each_once(received.append)
    for words in ("unreachable", "unreachable", "full", "unreachable"):
        say(words)
    assert received == ["unreachable", "full", "unreachable"]


HELD = WarehouseHeldError("process 7 has it open")


@pytest.fixture
def remembering(harness):
    """The import, which remembers its warehouse and the names that are stored there."""
    harness.settings.warehouse_path.touch()
    known = KnownWarehouse(harness.settings)
    known.named("default", f"{harness.opened.source.names_digest}:{PLAYS[-1].history['started']}")
    known.warehouse_id = "warehouse-1"
    known.opened("warehouse-1", ["default"], {})
    harness.opened.warehouse = KnownWarehouse(harness.settings)
    return harness


def finish_all(harness, warehouse_id="warehouse-1"):
    """Let every partition be finished for a warehouse."""
    destination = replace(harness.destination(), warehouse_id=warehouse_id)
    contents = harness.opened.source.survey(Grid(WIDTH), WIDTH)
    harness.history.known = {
        content.key: Finished("before", destination.version(content)) for content in contents
    }


def test_a_remembered_warehouse_is_published_for_before_it_can_be_opened(remembering):
    remembering.consumer.held = HELD
    assert len(remembering.opened.prepare(remembering.history).work) == len(KEYS)
    with pytest.raises(WarehouseHeldError):
        remembering.opened.publish(remembering.history)
    assert keys_of(remembering.history.recorded) == KEYS
    assert remembering.consumer.waited == [remembering.opened.request.wait_seconds]
    assert sorted(path.name for path in remembering.receipts.path.iterdir()) == KEYS


def test_a_file_is_older_than_one_with_a_newer_play_that_was_imported_before(remembering):
    opened, newest = remembering.opened, PLAYS[-1].history["started"]
    assert opened.prepare(remembering.history).versions == opened.prepare(History()).versions
    opened.publish(remembering.history)
    assert KnownWarehouse(remembering.settings).newest == {"default": newest}
    versions = {finished.version for _, _, finished in remembering.history.recorded}
    opened._plan = None
    opened.warehouse.newest["default"] = newest + 1
    older = opened.prepare(remembering.history).versions.values()
    assert {version.removesuffix("-older") for version in older} == versions
    assert versions.isdisjoint(older)


def test_a_warehouse_that_is_not_remembered_is_waited_for_first(harness):
    harness.consumer.held = HELD
    with pytest.raises(WarehouseHeldError):
        harness.opened.publish(harness.history)
    assert harness.history.recorded == []


def test_another_warehouse_than_the_remembered_one_is_planned_for_again(remembering):
    remembering.consumer.warehouse_id = "warehouse-2"
    remembering.opened.publish(remembering.history)
    published = remembering.history.recorded
    assert keys_of(published) == KEYS * 2
    remembering.history.known = {key: finished for key, _, finished in published[3:]}
    again = replace(remembering.destination(), warehouse_id="warehouse-2")
    for content in remembering.opened.source.survey(Grid(WIDTH), WIDTH):
        assert remembering.history.known[content.key].version == again.version(content)
    assert KnownWarehouse(remembering.settings).warehouse_id == "warehouse-2"
    assert remembering.running.record.status is Status.COMPLETED


def test_if_nothing_is_due_for_another_warehouse_either_nothing_is_published(remembering):
    finish_all(remembering, "warehouse-2")
    remembering.consumer.warehouse_id = "warehouse-2"
    remembering.opened.warehouse.warehouse_id = "warehouse-2"
    remembering.opened.publish(remembering.history)
    assert remembering.history.recorded == []


def test_a_repeat_with_nothing_new_does_not_open_the_warehouse(remembering):
    finish_all(remembering)
    remembering.opened.publish(remembering.history)
    record = remembering.running.record
    assert (record.status, record.total_records, record.unchanged) == (Status.COMPLETED, 0, ROWS)
    assert (remembering.consumer.begun, remembering.consumer.waited) == (0, [])


def test_a_repeat_with_nothing_new_does_not_wait_for_a_changed_warehouse(remembering):
    finish_all(remembering)
    remembering.opened.begin_consumer()
    remembering.consumer.held = HELD
    remembering.opened.publish(remembering.history)
    assert remembering.running.record.status is Status.COMPLETED
    assert remembering.consumer.waited == [0]


def test_a_changed_warehouse_is_confirmed_before_anything_is_planned_for_it(remembering):
    finish_all(remembering)
    remembering.opened.begin_consumer()
    remembering.consumer.warehouse_id = "warehouse-2"
    assert len(remembering.opened.prepare(remembering.history).work) == len(KEYS)


def test_a_repeat_waits_for_the_warehouse_if_events_are_left_on_the_stream(remembering):
    finish_all(remembering)
    remembering.opened.has_backlog = True
    remembering.opened.begin_consumer()
    remembering.consumer.held = HELD
    with pytest.raises(WarehouseHeldError):
        remembering.opened.publish(remembering.history)
    assert remembering.consumer.waited == [remembering.opened.request.wait_seconds]


def test_a_known_server_under_a_new_id_is_refused_before_anything_is_published(harness):
    harness.settings.warehouse_path.touch()
    harness.opened.warehouse = KnownWarehouse(harness.settings)
    harness.consumer.stored_as = "home"
    with pytest.raises(ConfigurationError, match="25 of 25 plays that were compared are stored"):
        harness.opened.publish(harness.history)
    assert harness.history.recorded == []
    assert harness.session.last_sequence() == 0
    assert not harness.receipts.path.exists()


@pytest.fixture
def refused(tmp_path):
    """Open an import that fails before it needs its consumer; yield the error."""

    @contextmanager
    def refused(kind, source, *, stop=None, **settings):
        given = Settings(pipeline_data_dir=tmp_path / "data", **settings)
        stop = stop or Stop("the import was stopped", hint="import again to resume it")
        with (
            pytest.raises(kind) as caught,
            open_import(
                given,
                ImportRequest(source, "default"),
                None,
                show=not_called,
                on_readable=not_called,
                say=not_called,
                stop=stop,
                began_at=0.0,
            ),
        ):
            pass
        yield caught.value

    return refused


def test_unusable_credentials_are_reported_before_the_source_is_opened(refused, tmp_path):
    given = {"nats_url": "nats://127.0.0.1:1", "nats_creds": tmp_path / "none.creds"}
    with refused(ConfigurationError, tmp_path / "none.db", **given) as fault:
        assert "none.creds" in fault.message
    assert not (tmp_path / "data").exists()


def test_a_missing_source_leaves_no_trace(refused, tmp_path):
    with refused(SourceError, tmp_path / "none.db") as fault:
        assert "it does not exist" in fault.message
    assert not (tmp_path / "data").exists()


def test_the_caller_hears_of_a_readable_source_before_the_stream_starts(tmp_path, database):
    def hear():
        assert not (tmp_path / "data" / "nats").exists()
        raise LookupError("heard")

    with (
        pytest.raises(LookupError, match="heard"),
        open_import(
            Settings(pipeline_data_dir=tmp_path / "data"),
            ImportRequest(database, "default"),
            None,
            on_readable=hear,
            say=not_called,
            stop=Stop("the import was stopped"),
            began_at=0.0,
        ),
    ):
        pass


def test_a_stop_before_the_copy_leaves_no_trace(refused, tmp_path, database):
    stop = Stop("the import was stopped")
    stop.request()
    with refused(StoppedError, database, stop=stop):
        pass
    assert not (tmp_path / "data").exists()


def test_a_second_import_is_refused_and_names_the_first(refused, tmp_path, database):
    make_database(database.with_name("other.db"), plays=PLAYS[:1])
    (tmp_path / "data").mkdir()
    log = ImportLog(tmp_path / "data")
    with log.exclusive(database):
        log.write(ImportRecord.begin(database, "default", fresh=False))
        with refused(ImportRunningError, database.with_name("other.db")) as fault:
            assert fault.facts["progress"]["source"] == str(database)
