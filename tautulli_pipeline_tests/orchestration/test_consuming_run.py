"""The run that shows what a consumer process does, with a consumer that only ends."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.orchestration import consuming_run
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.consuming_run import consuming
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline_tests.command import wait_until

if TYPE_CHECKING:
    pass

ARRIVALS = Arrivals(
    months=(("2024-01", "movie", 3),),
    span=(datetime(2024, 1, 1), datetime(2024, 1, 2)),
    discarded=(("cache", "event_id", 2),),
    dead_letters=1,
    row_count=9,
)


class Consumer:
    """A consumer whose process ends as it is told here."""

    def __init__(self, outcome: Arrivals | Exception | None = None) -> None:
        self.ended: Future[Arrivals] = Future()
        self.calls: list[str] = []
        self._outcome = outcome

    def finish(self) -> None:
        self.calls.append("finish")
        if self._outcome is None:
            self.ended.cancel()
        elif isinstance(self._outcome, Exception):
            self.ended.set_exception(self._outcome)
        else:
            self.ended.set_result(self._outcome)

    def kill(self) -> None:
        self.calls.append("kill")


def the_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    (run,) = instance.get_runs()
    return run


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_consumer_is_shown_as_a_run_under_way_until_it_has_ended(instance) -> None:
    consumer = Consumer(ARRIVALS)
    with consuming(consumer, instance, "import-1"):
        assert the_run(instance).job_name == "consume_job"
        assert the_run(instance).status is dg.DagsterRunStatus.STARTED
        assert consumer.calls == []
    assert consumer.calls == ["finish"]
    assert the_run(instance).status is dg.DagsterRunStatus.SUCCESS
    assert the_run(instance).tags["tautulli_pipeline/import_id"] == "import-1"


def test_the_table_is_recorded_with_what_came_and_without_its_checks(instance) -> None:
    with consuming(Consumer(ARRIVALS), instance, "import-1"):
        pass
    event = instance.get_latest_materialization_event(TABLE_KEY)
    assert event is not None
    metadata = event.asset_materialization.metadata
    assert metadata["dagster/row_count"].value == 9
    assert metadata["inserted"].value == 3
    assert "| duplicate, same event (cache) | 2 |" in metadata["summary"].value
    evaluated = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    assert instance.all_logs(the_run(instance).run_id, of_type=evaluated) == []


def test_a_consumer_that_failed_makes_the_run_fail_with_its_words(instance) -> None:
    with (
        pytest.raises(WarehouseError, match="it is locked"),
        consuming(Consumer(WarehouseError("it is locked")), instance, "import-1"),
    ):
        pass
    assert the_run(instance).status is dg.DagsterRunStatus.FAILURE
    assert instance.get_latest_materialization_event(TABLE_KEY) is None


def test_what_ended_the_import_counts_more_than_what_it_did_to_the_consumer(instance) -> None:
    consumer = Consumer(WarehouseError("it is locked"))
    with pytest.raises(ZeroDivisionError), consuming(consumer, instance, "import-1"):
        raise ZeroDivisionError
    assert consumer.calls == ["finish"]
    assert the_run(instance).status is dg.DagsterRunStatus.FAILURE


def test_who_does_not_want_to_wait_has_the_consumer_killed(instance) -> None:
    consumer = Consumer(WarehouseError("it is gone"))
    with pytest.raises(KeyboardInterrupt), consuming(consumer, instance, "import-1"):
        interrupt()
    assert consumer.calls == ["kill", "finish"]


def test_a_consumer_that_had_nothing_in_hand_is_shown_as_a_canceled_run(instance) -> None:
    with pytest.raises(ZeroDivisionError), consuming(Consumer(), instance, "import-1"):
        raise ZeroDivisionError
    assert the_run(instance).status is dg.DagsterRunStatus.CANCELED
    assert instance.get_latest_materialization_event(TABLE_KEY) is None


def test_a_run_that_cannot_begin_is_told_and_not_waited_for(instance, monkeypatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dg.JobDefinition, "execute_in_process", fail)
    consumer = Consumer(ARRIVALS)
    with pytest.raises(ZeroDivisionError), consuming(consumer, instance, "import-1"):
        pytest.fail("nothing is recorded")


def test_the_record_is_not_waited_for_for_ever(instance, monkeypatch) -> None:
    monkeypatch.setattr(consuming_run, "_RECORDED_WITHIN_SECONDS", 0.05)
    consumer = Consumer(ARRIVALS)
    ends, consumer.finish = consumer.finish, lambda: None
    with consuming(consumer, instance, "import-1"):
        pass
    assert the_run(instance).status is dg.DagsterRunStatus.STARTED
    ends()
    wait_until(lambda: the_run(instance).is_finished)
