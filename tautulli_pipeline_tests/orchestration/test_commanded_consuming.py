"""The consumer's own side: orders through a real pipe, a real stream, a real warehouse."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from io import BytesIO

import pytest

from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.orchestration import commanded_consuming
from tautulli_pipeline.orchestration.commanded_consuming import CommandedConsuming, serve
from tautulli_pipeline.orchestration.services import consumer_lock, stream_address
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import query, wait_until
from tautulli_pipeline_tests.imports.rounds import Rounds

ROWS, REJECTED = 25, 1
BEGIN = {"kind": "begin", "import_id": "import-1"}
FINISH = {"kind": "finish"}


def drain(last_sequence):
    return {"kind": "drain", "last_sequence": last_sequence}


@pytest.fixture(autouse=True)
def _garbage_is_collected(monkeypatch):
    monkeypatch.setattr(commanded_consuming, "spare_collector", lambda: None)


@pytest.fixture
def consumer_dir(data_dir, monkeypatch):
    """The data directory of the environment."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    return data_dir


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A data directory whose stream holds an import of 25 plays in 3 partitions."""
    folder = tmp_path_factory.mktemp("published")
    source = folder / "tautulli.db"
    make_database(source, plays=[*(play(n) for n in range(1, ROWS)), play(ROWS, title="")])
    (folder / "data").mkdir()
    with stream_address(Settings(pipeline_data_dir=folder / "data")) as address:
        Rounds(source, folder / "data", address, width=10).publish("import-1")
        yield folder / "data"


class Replies(BytesIO):
    """Replies as they were written, line by line."""

    @property
    def said(self):
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def kinds(self):
        return [reply["kind"] for reply in self.said]


class Deaf(BytesIO):
    """The pipe of a parent that is gone."""

    def write(self, _reply):
        raise BrokenPipeError


@contextmanager
def parent_of(replies):
    """Serves in a thread; gives what sends orders and what waits for the exit code."""
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
    """Exit code and replies of a consumer that hears these orders and then no more."""
    replies = Replies() if replies is None else replies
    with parent_of(replies) as (order, orders, ended):
        order(*given)
        orders.close()
        return ended(), replies


def test_a_consumer_that_is_never_told_to_begin_touches_nothing(consumer_dir):
    code, replies = served()
    assert (code, replies.said) == (0, [])
    assert not consumer_dir.exists()


def test_a_setting_that_cannot_be_used_is_told_with_its_exit_code(consumer_dir, monkeypatch):
    monkeypatch.setenv("NATS_STREAM", "two words")
    code, replies = served(BEGIN)
    (failed,) = replies.said
    assert (code, failed["kind"], failed["fault"]["exit_code"]) == (1, "failed", 2)
    assert failed["fault"]["message"].startswith("NATS_STREAM='two words' is not usable")
    assert failed["fault"]["hint"]
    assert "ConfigurationError" in failed["fault"]["traceback"]
    assert not consumer_dir.exists()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RuntimeError("first line\nsecond line"), "the consumer failed: RuntimeError: first line"),
        (KeyError("name"), "the consumer failed: KeyError: 'name'"),
        (WarehouseError("locked", hint="wait"), "locked"),
    ],
)
def test_whatever_ends_it_is_told_in_one_line_with_where_it_was(
    consumer_dir, monkeypatch, fault, told
):
    def fail(_consuming):
        raise fault

    monkeypatch.setattr(CommandedConsuming, "run", fail)
    code, replies = served(BEGIN)
    ours = isinstance(fault, WarehouseError)
    found = replies.said[0]["fault"]
    assert code == 1
    assert (found["exit_code"], found["message"]) == (6 if ours else 1, told)
    assert found["hint"] == ("wait" if ours else "")
    assert "in fail\n" in found["traceback"]


def test_a_parent_that_is_gone_does_not_make_it_fail_otherwise(monkeypatch):
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "none")
    assert served(BEGIN, replies=Deaf())[0] == 1


def test_an_import_is_brought_in_settled_and_told_of(published, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(published))
    replies = Replies()
    with parent_of(replies) as (order, _, ended):
        order(BEGIN)
        wait_until(lambda: "ready" in replies.kinds)
        with pytest.raises(WarehouseError), consumer_lock(load_settings(), patience_seconds=0):
            pass
        order(drain(ROWS - REJECTED))
        wait_until(lambda: "drained" in replies.kinds)
        # What was drained once is drained again at once, and what nobody published is not missed.
        order(drain(ROWS - REJECTED))
        wait_until(lambda: replies.kinds.count("drained") == 2)
        order(FINISH)
        assert ended() == 0
    ready, *progress, first, second, finished = replies.said
    assert {reply["kind"] for reply in progress} <= {"progress"}
    assert ready["stream_id"].startswith("MEDIA_EVENTS@")
    for drained in (first, second):
        assert drained["unsettled"] == {}
        counts = {name: n for name, n in drained["totals"].items() if n}
        assert counts == {"published": ROWS - 1, "imported": ROWS - 1, "rejected": REJECTED}
    assert finished["kind"] == "finished"
    assert sum(plays for *_, plays in finished["arrivals"]["months"]) == ROWS - REJECTED
    assert finished["arrivals"]["row_count"] == ROWS - REJECTED
    assert finished["arrivals"]["dead_letters"] == REJECTED
    ((known,),) = query(published, "SELECT warehouse_id::VARCHAR FROM warehouse_identity")
    assert ready["warehouse_id"] == known
    with consumer_lock(load_settings(), patience_seconds=0):
        pass


def test_a_consumer_whose_orders_end_ends_too(published, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(published))
    code, replies = served(BEGIN)
    assert code == 0
    assert replies.kinds[-1] == "finished"
    assert "drained" not in replies.kinds
    assert served(BEGIN, replies=Deaf())[0] == 0
    with consumer_lock(load_settings(), patience_seconds=0):
        pass


def test_rows_that_another_import_left_are_not_its_own_to_publish_again(published):
    class Counting:
        def totals(self, import_id):
            return {"imported": 5} if import_id == "import-1" else {}

    replies = Replies()
    reporting = commanded_consuming._Reporting(None, replies, Counting(), "import-1")
    unsettled = {("import-0", "key-1"): [1], ("import-1", "key-2"): [2, 3]}
    for _ in range(2):
        reporting.report(None, unsettled)
    (progress,) = replies.said  # told once: the second time nothing had changed
    assert progress == {
        "kind": "progress",
        "totals": {"imported": 5},
        "unsettled": {"key-2": [2, 3]},
    }
