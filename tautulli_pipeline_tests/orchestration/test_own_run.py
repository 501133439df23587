"""Runs that the command line executes itself, in a thread, over Dagster's storage in memory."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import dagster as dg
import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS
from tautulli_pipeline.orchestration.own_run import OwnRun
from tautulli_pipeline.orchestration.workers import is_dead

ASKED = SimpleNamespace(may_end=threading.Event(), fault=None, thread=None)


@dg.op
def work(greeting: dg.ResourceParam[str]) -> None:
    ASKED.thread, ASKED.heard = threading.current_thread(), greeting
    assert ASKED.may_end.wait(30)
    if ASKED.fault:
        raise ASKED.fault


@dg.job(
    executor_def=dg.in_process_executor,
    resource_defs={"greeting": dg.ResourceDefinition.hardcoded_resource("as it is defined")},
)
def work_job() -> None:
    work()


@pytest.fixture(autouse=True)
def asked():
    ASKED.may_end.set()
    ASKED.fault = ASKED.thread = None
    return ASKED


def latest(instance):
    return instance.get_runs(limit=1)[0]


def test_a_run_tells_its_process_its_import_and_that_nothing_starts_it_again(instance):
    ASKED.may_end.clear()
    run = OwnRun(work_job, {}, instance, "import-7")
    assert not run.ends_within(0.01)
    ASKED.may_end.set()
    assert run.ends_within(30)
    run.raise_fault()
    recorded = latest(instance)
    assert recorded.status is dg.DagsterRunStatus.SUCCESS
    assert recorded.tags.items() >= COMMAND_LINE_TAGS.items()
    assert recorded.tags["dagster/max_retries"] == "0"
    assert recorded.tags["tautulli_pipeline/import_id"] == "import-7"
    assert recorded.tags["tautulli_pipeline/process_id"] == str(os.getpid())
    assert not is_dead(instance, recorded)


def test_a_run_works_with_what_it_is_given_in_place_of_what_is_defined(instance):
    for given, heard in (({}, "as it is defined"), ({"greeting": "as given"}, "as given")):
        run = OwnRun(work_job, given, instance, "import-1")
        assert run.ends_within(30)
        run.raise_fault()
        assert ASKED.heard == heard


def test_a_run_is_not_in_the_main_thread_which_takes_the_signals(instance):
    began_in = []
    run = OwnRun(
        work_job,
        {},
        instance,
        "import-1",
        begin=lambda: began_in.append((threading.current_thread(), ASKED.thread)),
    )
    assert run.ends_within(30)
    assert began_in == [(ASKED.thread, None)]  # in the run's thread, and before it works
    assert ASKED.thread is not threading.main_thread()
    assert ASKED.thread.daemon


@pytest.mark.parametrize("fault", [SourceError("cannot read it"), KeyboardInterrupt()])
def test_what_ends_a_run_is_raised_by_who_waits_for_it(instance, fault, caplog):
    ASKED.fault = fault
    run = OwnRun(work_job, {}, instance, "import-1")
    assert run.ends_within(30)
    for _ in range(2):
        with pytest.raises(type(fault)) as caught:
            run.raise_fault()
        assert caught.value is fault
    assert latest(instance).status is dg.DagsterRunStatus.FAILURE
