"""An import of the command line without its import: what it refuses, and when it gives up."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from tautulli_pipeline.errors import (
    ConfigurationError,
    ImportRunningError,
    SourceError,
    StoppedError,
    StreamError,
)
from tautulli_pipeline.imports.plan import Destination, make_plan
from tautulli_pipeline.imports.record import ImportLog, ImportRecord
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.orchestration.consumer_handle import Drained
from tautulli_pipeline.orchestration.local import LocalImport
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.survey import PartitionContent

KEY = "0000000001-0000000010"


@pytest.fixture
def local(tmp_path, database):
    """Makes an import that never gets as far as its consumer."""

    def local(path=database, *, stopping=None, **settings):
        made = LocalImport(
            Settings(pipeline_data_dir=tmp_path / "data", **settings), path, None, fresh=False
        )
        made.stopping = stopping or made.stopping
        return made

    return local


def test_a_login_that_cannot_work_is_told_before_the_source_is_looked_at(local, tmp_path):
    given = {"nats_url": "nats://127.0.0.1:1", "nats_creds": tmp_path / "none.creds"}
    with pytest.raises(ConfigurationError, match=r"none\.creds"):
        local(tmp_path / "none.db", **given).run()
    assert not (tmp_path / "data").exists()


def test_a_source_that_is_not_there_leaves_no_trace(local, tmp_path):
    with pytest.raises(SourceError, match="it does not exist"):
        local(tmp_path / "none.db").run()
    assert not (tmp_path / "data").exists()


def test_who_stops_it_while_it_copies_leaves_no_trace(local, tmp_path):
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(StoppedError) as caught:
        local(stopping=stopping).run()
    assert caught.value.hint == "import again to resume it"
    assert not (tmp_path / "data").exists()


def test_a_second_import_hears_of_the_first_and_changes_nothing(local, tmp_path, database):
    (tmp_path / "data").mkdir()
    log = ImportLog(tmp_path / "data")
    with log.exclusive(database):
        log.write(ImportRecord.begin(database, fresh=False))
        with pytest.raises(ImportRunningError) as caught:
            local().run()
    assert caught.value.facts["progress"]["source"] == str(database)


class Draining:
    """A consumer that finds these rows missing, one answer after the other, and then none."""

    def __init__(self, *lost: int) -> None:
        self._lost = list(lost)

    def drain(self, _last_sequence, _stopping):
        count = self._lost.pop(0) if self._lost else 0
        missing = {KEY: list(range(1, count + 1)), "gone": [1]} if count else {}
        return Drained({"imported": 100 - count}, missing)


@pytest.fixture
def draining(local, tmp_path, monkeypatch):
    """Publishes and drains with a consumer that loses rows; gives what was published again."""

    def draining(*lost):
        made, published = local(), []
        monkeypatch.setattr(made, "_run_job", lambda half, *_: published.append(half.work))
        (tmp_path / "data").mkdir(exist_ok=True)
        log = ImportLog(tmp_path / "data")
        running = RunningImport(log, ImportRecord.begin(made.path, fresh=False))
        contents = [PartitionContent(KEY, 100, "digest")]
        plan = make_plan(contents, {}, Destination("a", "b", "c"), "import-1", fresh=False)
        half = SimpleNamespace(plan=plan, work=plan.work)
        session = SimpleNamespace(last_sequence=lambda: 7)
        said = []
        made.say = said.append
        try:
            made._publish_and_drain(half, None, Draining(*lost), session, running)
        finally:
            published.pop(0)
        return published, said, running.record

    return draining


def test_what_arrived_is_not_published_again(draining):
    published, said, record = draining()
    assert (published, said, record.fates.imported) == ([], [], 100)


def test_rows_that_were_lost_are_published_again_alone_and_as_new_messages(draining):
    published, said, record = draining(3, 2)
    (first,), (second,) = published  # a partition that the source has no longer is let go
    assert first.only == frozenset({1, 2, 3})
    assert second.only == frozenset({1, 2})
    assert 0 < first.attempt <= second.attempt
    assert (first.key, first.rows) == (KEY, 100)
    assert said == [
        "3 events were lost on the stream; publishing them again",
        "2 events were lost on the stream; publishing them again",
    ]
    assert record.fates.imported == 100


def test_as_long_as_some_arrive_it_goes_on(draining):
    published, _, record = draining(*range(20, 0, -1))
    assert len(published) == 20
    assert record.fates.imported == 100


@pytest.mark.parametrize("lost", [(2,) * 9, (2, 5, 3, 2, 1), (3, 2, 2, 2, 2, 1)])
def test_rows_that_never_arrive_are_given_up_after_three_times(draining, lost):
    with pytest.raises(StreamError) as caught:
        draining(*lost)
    assert caught.value.message == ("2 events were published again and again and never arrived")
    assert "NATS_DURABLE_NAME" in caught.value.hint
