"""The consumer worker, with a real pipe, stream and warehouse."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from io import BytesIO
from types import SimpleNamespace

import duckdb
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.imports import consumer_worker
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.consumer_protocol import Begin
from tautulli_pipeline.imports.consumer_worker import serve
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import query, wait_until
from tautulli_pipeline_tests.holding import held_by_another_process
from tautulli_pipeline_tests.imports.rounds import Rounds

ROWS, REJECTED = 25, 1
BEGIN = {"kind": "begin", "import_id": "import-1"}
FINISH = {"kind": "finish", "since": "1970-01-01T00:00:00"}


def the_consumer_lock():
    settings = load_settings()
    return consumer_lock(settings.layout, settings.warehouse_path, patience_seconds=0)


def drain(last_sequence):
    return {"kind": "drain", "last_sequence": last_sequence}


@pytest.fixture
def consumer_dir(data_dir, monkeypatch):
    """The data directory, set in the environment."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    return data_dir


@contextmanager
def published_in(folder):
    """Yield a data directory whose stream holds an import of 25 plays in 3 partitions."""
    source = folder / "tautulli.db"
    make_database(source, plays=[*(play(n) for n in range(1, ROWS)), play(ROWS, title="")])
    (folder / "data").mkdir()
    with stream_address(Settings(pipeline_data_dir=folder / "data")) as address:
        Rounds(source, folder / "data", address, width=10).publish("import-1")
        yield folder / "data"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    with published_in(tmp_path_factory.mktemp("published")) as data_dir:
        yield data_dir


class Replies(BytesIO):
    """Collects the written replies, line by line."""

    @property
    def said(self):
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def kinds(self):
        return [reply["kind"] for reply in self.said]


class BrokenPipe(BytesIO):
    """The pipe to a parent that is gone."""

    def write(self, _reply):
        raise BrokenPipeError


@contextmanager
def parent_of(replies):
    """Serve in a thread; yield functions to send orders and get the exit code, and the pipe."""
    read_end, write_end = os.pipe()
    codes = []
    with (
        os.fdopen(read_end, "rb", buffering=0) as lines,
        os.fdopen(write_end, "wb", buffering=0) as orders,
    ):
        thread = threading.Thread(target=lambda: codes.append(serve(lines, replies)))
        thread.start()

        def order(*given):
            for one in given:
                orders.write(json.dumps(one).encode() + b"\n")

        def ended():
            thread.join(60)
            return codes[0]

        try:
            yield order, orders, ended
        finally:
            orders.close()
            thread.join(60)
            wait_until(lambda: not any("(listen)" in t.name for t in threading.enumerate()))


def served(*given, replies=None):
    """Return the exit code and replies of a consumer that gets these orders and then EOF."""
    replies = Replies() if replies is None else replies
    with parent_of(replies) as (order, orders, ended):
        order(*given)
        orders.close()
        return ended(), replies


def test_a_consumer_that_never_begins_touches_nothing(consumer_dir):
    code, replies = served()
    assert (code, replies.said) == (0, [])
    assert not consumer_dir.exists()


def test_an_unusable_setting_is_reported_with_its_exit_code(consumer_dir, monkeypatch):
    monkeypatch.setenv("NATS_STREAM", "two words")
    code, replies = served(BEGIN)
    (failed,) = replies.said
    assert (code, failed["kind"], failed["exit_code"]) == (1, "failed", 2)
    assert failed["message"].startswith("NATS_STREAM='two words' is not usable")
    assert failed["hint"]
    assert "ConfigurationError" in failed["traceback"]
    assert not consumer_dir.exists()


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        (RuntimeError("first line\nsecond line"), "the consumer failed: RuntimeError: first line"),
        (KeyError("name"), "the consumer failed: KeyError: 'name'"),
        (WarehouseError("locked", hint="wait"), "locked"),
    ],
)
def test_any_error_is_reported_in_one_line_with_its_traceback(
    consumer_dir, monkeypatch, fault, reported
):
    def fail(*_given):
        raise fault

    monkeypatch.setattr(consumer_worker, "consume", fail)
    code, replies = served(BEGIN)
    ours = isinstance(fault, WarehouseError)
    found = replies.said[0]
    assert code == 1
    assert (found["exit_code"], found["message"]) == (6 if ours else 1, reported)
    assert found["hint"] == ("wait" if ours else "")
    assert "in fail\n" in found["traceback"]


def test_a_failing_consumer_returns_its_exit_code_even_if_its_parent_is_gone(monkeypatch):
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "none")
    assert served(BEGIN, replies=BrokenPipe())[0] == 1


def test_an_import_is_consumed_settled_and_reported(published, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(published))
    replies = Replies()
    with parent_of(replies) as (order, _, ended):
        order(BEGIN)
        wait_until(lambda: "ready" in replies.kinds)
        with pytest.raises(WarehouseError), the_consumer_lock():
            pass
        order(drain(ROWS - REJECTED))
        wait_until(lambda: "drained" in replies.kinds)
        # A second drain returns immediately, and the row that was never published is not missed.
        order(drain(ROWS - REJECTED))
        wait_until(lambda: replies.kinds.count("drained") == 2)
        order(FINISH)
        assert ended() == 0
    ready, *progress, first, second, finished = replies.said
    assert {reply["kind"] for reply in progress} <= {"progress"}
    for drained in (first, second):
        assert drained["unsettled"] == {}
        counts = {name: n for name, n in drained["outcomes"].items() if n}
        assert counts == {"published": ROWS - 1, "imported": ROWS - 1, "rejected": REJECTED}
    assert finished["kind"] == "finished"
    assert finished["arrivals"]["stored"] == ROWS - REJECTED
    assert finished["arrivals"]["row_count"] == ROWS - REJECTED
    assert finished["arrivals"]["dead_letters"] == REJECTED
    ((known,),) = query(published, "SELECT warehouse_id::VARCHAR FROM warehouse_identity")
    assert ready["warehouse_id"] == known
    with the_consumer_lock():
        pass


def test_a_consumer_ends_when_its_input_ends(published, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(published))
    code, replies = served(BEGIN)
    assert code == 0
    assert set(replies.kinds) <= {"ready", "progress"}  # nobody reads the arrivals
    assert served(BEGIN, replies=BrokenPipe())[0] == 0
    with the_consumer_lock():
        pass


def test_lost_rows_of_another_import_are_not_reported_for_republishing():
    class Counting:
        def totals(self, import_id, partitions):
            assert partitions == ["key-2"]
            return {"imported": 5} if import_id == "import-1" else {}

    replies = Replies()
    begin = Begin("import-1")
    running = consumer_worker._Import(begin, None, replies, covered=["key-2"])
    unsettled = {("import-0", "key-1"): [1], ("import-1", "key-2"): [2, 3]}
    consumption = SimpleNamespace(ledger=Counting(), unsettled=unsettled)
    for _ in range(2):
        running.report(consumption)
    (progress,) = replies.said  # only one: the second time, nothing had changed
    assert (progress["kind"], progress["outcomes"]["imported"]) == ("progress", 5)
    running.report_drained(consumption)
    assert replies.said[-1]["unsettled"] == {"key-2": [2, 3]}


def test_it_names_and_waits_for_a_program_that_holds_the_warehouse(published, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(published))
    replies = Replies()
    with (
        held_by_another_process(published / "playback.duckdb") as process_id,
        # The parent goes away at the end, which ends the wait.
        parent_of(replies) as (order, _, _ended),
    ):
        order(BEGIN)
        # It keeps saying so, and leaves it to the import to end the wait.
        wait_until(lambda: replies.kinds.count("held") > 1)
        assert f"process {process_id} " in replies.said[0]["message"]
        assert replies.said[0]["hint"]
        assert {*replies.kinds} == {"held"}
    code, replies = served(BEGIN, FINISH)
    assert (code, replies.kinds[0], replies.kinds[-1]) == (0, "ready", "finished")


def test_the_warehouse_is_reopened_after_a_message_that_breaks_it(consumer_dir, monkeypatch):
    insert, broken = Writer._insert_events, []

    def break_at_message_5(writer, batch, *given):
        bodies = dict(zip(*(batch[n].to_pylist() for n in ("sequence", "body")), strict=True))
        if bodies.get(5):
            broken.append(len(batch))
            writer._connection.close()
            raise duckdb.FatalException("FATAL Error: Failed to rollback transaction")
        insert(writer, batch, *given)

    monkeypatch.setattr(Writer, "_insert_events", break_at_message_5)
    replies = Replies()
    with published_in(consumer_dir.parent), parent_of(replies) as (order, _, ended):
        order(BEGIN, drain(ROWS - REJECTED))
        wait_until(lambda: "drained" in replies.kinds)
        order(FINISH)
        assert ended() == 0
    assert replies.kinds.count("ready") == 1
    assert replies.kinds[-1] == "finished"
    assert broken[0] > broken[-1] == 1
    stored = query(consumer_dir, "SELECT stream_sequence FROM playback_events ORDER BY 1")
    assert stored == [(n,) for n in range(1, ROWS) if n != 5]
    reason = "message cannot be stored: FatalException: FATAL Error: Failed to rollback transaction"
    letters = "SELECT stream_sequence, reason FROM dead_letters WHERE event_id IS NOT NULL"
    assert query(consumer_dir, letters) == [(5, reason)]
