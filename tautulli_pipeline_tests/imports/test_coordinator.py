"""One import over a real source and stream; only its consumer is played, to lose rows."""

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
)
from tautulli_pipeline.imports.consumer_protocol import Drained, Ready
from tautulli_pipeline.imports.coordinator import (
    Import,
    ImportRequest,
    _Control,
    each_once,
    open_import,
)
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
    """A consumer that finds these rows missing, one answer after the other, and then none."""

    lost: list[dict[str, list[int]]] = field(default_factory=list)
    fault: PipelineError | None = None
    covered: set[str] = field(default_factory=set)

    def require_alive(self):
        if self.fault is not None:
            raise self.fault

    def await_ready(self, require_going_on):
        require_going_on()
        return Ready("warehouse-1")

    def cover(self, partitions):
        self.covered = set(partitions)

    def drain(self, _last_sequence, require_going_on):
        require_going_on()
        missing = self.lost.pop(0) if self.lost else {}
        return Drained(Outcomes(imported=ROWS - sum(map(len, missing.values()))), missing)


@dataclass
class History:
    """Remembers some partitions; notes what is recorded, and lets a test look on."""

    known: dict[str, Finished] = field(default_factory=dict)
    recorded: list[tuple[str, dict[int, str], Finished]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def grid(self):
        return Grid(WIDTH)

    def finished(self):
        return self.known

    def show(self, keys):
        self.shown = list(keys)

    def record(self, receipt, content, finished):
        assert content.key == receipt.partition_key
        outcomes = receipt.rows.to_pydict()
        found = dict(zip(outcomes["source_row_id"], outcomes["outcome"], strict=True))
        self.recorded.append((receipt.partition_key, found, finished))
        self.on_record(receipt)

    def on_record(self, receipt):
        """Looks on."""


class Room:
    """What a test sees of an import."""

    def __init__(self, settings, running, session):
        self.settings = settings
        self.running = running
        self.session = session
        self.stop = Stop("the import was stopped", hint="import again to resume it")
        self.consumer = Consumer()
        self.history = History()
        self.said = []
        self.opened = None

    @property
    def receipts(self):
        return ReceiptFolder(self.settings.layout.receipts / self.running.record.import_id)

    def destination(self):
        return Destination("default", "warehouse-1", str(self.session.identity))


@pytest.fixture
def room(tmp_path, database, address):
    """An import of 25 plays that has everything but a consumer of its own."""
    settings = Settings(pipeline_data_dir=tmp_path, import_batch_size=WIDTH)
    log = ImportLog(tmp_path)
    with (
        log.exclusive(database),
        open_source(database, settings.layout.snapshots) as source,
        open_publishing(address) as session,
    ):
        running = RunningImport(
            log,
            ImportRecord.begin(database, fresh=False),
            unreadable=(),
            began_at=0.0,
            observe=lambda _record: None,
        )
        room = Room(settings, running, session)
        room.opened = Import(
            settings=settings,
            request=ImportRequest(database, "default"),
            source=source,
            contents=None,
            running=running,
            session=session,
            consumer=room.consumer,
            control=_Control(room.stop, room.consumer, room.said.append),
        )
        yield room


def keys_of(recorded):
    return [key for key, *_ in recorded]


def test_each_partition_is_recorded_once_its_receipt_is_stored(room):
    content = {c.key: c for c in room.opened.source.survey(Grid(WIDTH), WIDTH)}
    versions = {key: room.destination().version(found) for key, found in content.items()}
    room.history.known = {KEYS[0]: Finished("before", versions[KEYS[0]])}

    def look(receipt):
        stored = room.receipts.read(receipt.partition_key)
        assert stored == replace(receipt, seconds=0.0)
        # The record names it only when Dagster remembers it.
        assert room.running.record.last_processed_id < receipt.rows["source_row_id"][0].as_py()

    room.history.on_record = look
    room.opened.publish(room.history)
    import_id = room.running.record.import_id
    assert room.history.shown == KEYS
    assert [(key, finished) for key, _, finished in room.history.recorded] == [
        (key, Finished(import_id, versions[key])) for key in KEYS[1:]
    ]
    assert room.consumer.covered == set(KEYS[1:])
    record = room.running.record
    assert (record.status, record.last_processed_id) == (Status.COMPLETED, ROWS)
    assert (record.total_records, record.unchanged, record.pending) == (15, 10, 0)
    assert not room.receipts.path.exists()  # every row is settled


def test_a_stop_finishes_the_current_partition(room):
    room.history.on_record = lambda _receipt: room.stop.request()
    with pytest.raises(StoppedError) as caught:
        room.opened.publish(room.history)
    assert caught.value.hint == "import again to resume it"
    assert keys_of(room.history.recorded) == KEYS[:1]
    assert room.running.record.last_processed_id == WIDTH
    assert room.running.record.status is Status.RUNNING
    assert [path.name for path in room.receipts.path.iterdir()] == KEYS[:1]


def test_a_consumer_that_fails_ends_the_import_at_the_next_partition(room):
    def fail(_receipt):
        room.consumer.fault = WarehouseError("the warehouse is full")

    room.history.on_record = fail
    with pytest.raises(WarehouseError, match="is full"):
        room.opened.publish(room.history)
    assert keys_of(room.history.recorded) == KEYS[:1]


def test_chosen_partitions_are_published_alone(room):
    plan = room.opened.prepare(room.history, [KEYS[2], KEYS[0]])
    assert plan is room.opened.prepare(room.history)
    room.opened.publish(room.history)
    assert keys_of(room.history.recorded) == [KEYS[0], KEYS[2]]
    record = room.running.record
    assert (record.total_records, record.unchanged, record.pending) == (15, 0, 10)


def test_what_arrived_is_not_published_again(room):
    room.opened.publish(room.history)
    assert keys_of(room.history.recorded) == KEYS
    assert room.said == []


def test_lost_rows_are_published_again_alone_and_as_new_messages(room):
    # A partition that the source no longer has is left out.
    room.consumer.lost = [{KEYS[0]: [1, 2, 3], "0000000091-0000000100": [95]}, {KEYS[0]: [1, 2]}]
    room.opened.publish(room.history)
    again = room.history.recorded[3:]
    assert keys_of(again) == [KEYS[0], KEYS[0]]
    # The stream took exactly these, though it remembers the ids of their first messages.
    for (_, outcomes, _), sent in zip(again, ({1, 2, 3}, {1, 2}), strict=True):
        assert {n for n, outcome in outcomes.items() if outcome == "published"} == sent
        assert set(outcomes) == set(range(1, WIDTH + 1))
    assert room.session.last_sequence() == ROWS + 5
    assert room.said == [
        "3 events were lost on the stream; publishing them again",
        "2 events were lost on the stream; publishing them again",
    ]
    assert room.running.record.status is Status.COMPLETED


def losing(*counts):
    return [{KEYS[0]: list(range(1, count + 1))} for count in counts]


def test_it_goes_on_as_long_as_some_arrive(room):
    room.consumer.lost = losing(*range(10, 0, -1))
    room.opened.publish(room.history)
    assert len(room.history.recorded) == 3 + 10
    assert room.running.record.outcomes.imported == ROWS


@pytest.mark.parametrize("lost", [(2,) * 9, (2, 5, 3, 2, 1), (3, 2, 2, 2, 2, 1)])
def test_rows_that_never_arrive_are_given_up_after_three_fruitless_rounds(room, lost):
    room.consumer.lost = losing(*lost)
    with pytest.raises(StreamError) as caught:
        room.opened.publish(room.history)
    assert caught.value.message == "2 events could not be delivered after 3 attempts"
    assert "NATS_DURABLE_NAME" in caught.value.hint


def nobody(words):
    """Hears nothing, as nothing is to be heard."""
    raise AssertionError(words)


def test_what_is_waited_for_is_said_once_until_it_is_something_else():
    heard = []
    say = each_once(heard.append)
    for words in ("the stream is away", "the stream is away", "it is full", "the stream is away"):
        say(words)
    assert heard == ["the stream is away", "it is full", "the stream is away"]


@pytest.fixture
def refused(tmp_path):
    """Opens an import that never gets as far as its consumer; gives the fault."""

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
                show=nobody,
                say=nobody,
                stop=stop,
                began_at=0.0,
            ),
        ):
            pass
        yield caught.value

    return refused


def test_unusable_credentials_are_named_before_the_source_is_looked_at(refused, tmp_path):
    given = {"nats_url": "nats://127.0.0.1:1", "nats_creds": tmp_path / "none.creds"}
    with refused(ConfigurationError, tmp_path / "none.db", **given) as fault:
        assert "none.creds" in fault.message
    assert not (tmp_path / "data").exists()


def test_a_missing_source_leaves_no_trace(refused, tmp_path):
    with refused(SourceError, tmp_path / "none.db") as fault:
        assert "it does not exist" in fault.message
    assert not (tmp_path / "data").exists()


def test_a_stop_before_the_copy_leaves_no_trace(refused, tmp_path, database):
    stop = Stop("the import was stopped")
    stop.request()
    with refused(StoppedError, database, stop=stop):
        pass
    assert not (tmp_path / "data").exists()


def test_a_second_import_names_the_first_and_changes_nothing(refused, tmp_path, database):
    make_database(database.with_name("other.db"), plays=PLAYS[:1])
    (tmp_path / "data").mkdir()
    log = ImportLog(tmp_path / "data")
    with log.exclusive(database):
        log.write(ImportRecord.begin(database, fresh=False))
        with refused(ImportRunningError, database.with_name("other.db")) as fault:
            assert fault.facts["progress"]["source"] == str(database)
