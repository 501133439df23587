"""Dagster runs that the command line executes in its own process, without a daemon."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from typing import Final

import dagster as dg

from tautulli_pipeline.analytics.building import Builder, Built, open_builder
from tautulli_pipeline.analytics.inputs import is_current, request_for
from tautulli_pipeline.errors import AnalyticsError
from tautulli_pipeline.imports.coordinator import Import
from tautulli_pipeline.imports.stopping import SIGNALS, Stop
from tautulli_pipeline.memory import freeze_gc, loading_modules
from tautulli_pipeline.orchestration.analytics import ANALYTICS_KEYS
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.history import history_of, last_materialized_at
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS, QUIET, open_instance
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.orchestration.options import ImportOptions
from tautulli_pipeline.orchestration.report import REPORT_KEY
from tautulli_pipeline.orchestration.run_tables import arrival_metadata
from tautulli_pipeline.orchestration.workers import PROCESS_TAG, fail_orphaned_runs
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.warehouse.arrivals import Arrivals

_log = logging.getLogger(__name__)

# An import of so few plays takes about as long as the builder needs to load.
_SMALL_IMPORT: Final = 20_000


def import_by_jobs(
    opened: Import, settings: Settings, stop: Stop, *, builds: bool = True
) -> AnalyticsError | None:
    """Run `import_job` if any partition is due, then `consume_job` if anything changed.

    Args:
        opened: the import.
        settings: of its server.
        stop: ends it.
        builds: whether to build the analytics too.

    Returns:
        Why the analytics could not be built; the import is complete all the same.

    Raises:
        StoppedError: a stop was requested; the import can be resumed.
        PipelineError: the import failed; it can be resumed.
    """

    @contextmanager
    def importing(
        _context: dg.OpExecutionContext, _settings: Settings, _options: ImportOptions
    ) -> Iterator[Import]:
        # Dagster installs its own signal handlers for each step.
        with stop.heard(), opened.consumer.ended_after_failure():
            yield opened

    with ExitStack() as stack:
        instance = stack.enter_context(_quiet_instance(settings))
        history = history_of(instance, settings)
        tags = {**_tags(), "tautulli_pipeline/import_id": opened.record.import_id}
        execute = partial(_execute, instance=instance, tags=tags, stop=stop)
        builder = stack.enter_context(open_builder()) if builds else None
        if opened.prepare(history).work:
            if builder and opened.record.total_records <= _SMALL_IMPORT:
                builder.load()
            execute(_job(settings, Names(settings.server).job), {"importing": importing})
            if builder:
                builder.load()  # it is ready when it is needed
        else:
            opened.publish(history)
        arrivals = opened.consumer.finish(last_materialized_at(instance))
        return _record(arrivals, settings, builder, execute)


def build_by_job(settings: Settings, stop: Stop) -> AnalyticsError | None:
    """Build the analytics, which are out of date.

    Returns:
        Why they could not be built.

    Raises:
        StoppedError: a stop was requested.
    """
    with _quiet_instance(settings) as instance, open_builder() as builder:
        execute = partial(_execute, instance=instance, tags=_tags(), stop=stop)
        return _record(None, settings, builder, execute)


@contextmanager
def _quiet_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    # Dagster prints errors to stderr that it also raises.
    with ExitStack() as stack:
        with loading_modules():
            instance = stack.enter_context(open_instance(settings.data_dir))
        stack.enter_context(redirect_stderr(StringIO()))
        fail_orphaned_runs(instance)
        freeze_gc()
        yield instance


def _tags() -> dict[str, str]:
    return {
        **COMMAND_LINE_TAGS,
        PROCESS_TAG: str(os.getpid()),
        # Without it, the UI does not list the run on the page of its job.
        ".dagster/repository": "__repository__@tautulli_pipeline.definitions",
    }


def _record(
    arrivals: Arrivals | None,
    settings: Settings,
    builder: Builder | None,
    execute: Callable[..., None],
) -> AnalyticsError | None:
    """Record what the table received, and build the analytics if they are out of date."""
    request = request_for(settings)
    keys: set[dg.AssetKey] = set()
    if builder is not None and not is_current(request):
        builder.begin(request)  # while Dagster begins the run
        keys |= {*ANALYTICS_KEYS, REPORT_KEY}
    resources: dict[str, object] = {}
    if arrivals is not None and arrivals.has_changes:
        keys.add(TABLE_KEY)
        metadata = arrival_metadata(arrivals, settings.warehouse_path)
        resources["consuming"] = lambda _context, _warehouse: metadata
    if not keys:
        return None
    failures: list[AnalyticsError] = []

    def building() -> Built:
        assert builder is not None
        try:
            return builder.built()
        except AnalyticsError as error:
            _log.warning("%s", error)
            failures.append(error)
            raise

    # The checks scan whole tables, and charts take two seconds. Both are made when Dagster itself
    # runs `consume_job`.
    job = _job(settings, "consume_job").get_subset(
        asset_selection=keys, asset_check_selection=set()
    )
    try:
        execute(job, {**resources, "building": building, "charting": dict, "reporting": _no_report})
    except dg.Failure:
        if not failures:
            raise
    return failures[0] if failures else None


def _no_report() -> None:
    """Write none: that takes a second. `report` does it, `up`, and the next run of Dagster."""


def _job(settings: Settings, name: str) -> dg.JobDefinition:
    # Loading the definitions takes time, and an import that finds nothing new needs none.
    from tautulli_pipeline.definitions import definitions_of

    servers = tuple(Names(one.server) for one in settings.each_server)
    return definitions_of(servers).resolve_job_def(name)


def _execute(
    job: dg.JobDefinition,
    resources: Mapping[str, object],
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
    stop: Stop,
) -> None:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        job.execute_in_process(
            instance=instance,
            resources={**job.resource_defs, **resources},
            run_config=QUIET,
            tags=dict(tags),
        )
    except dg.DagsterExecutionInterruptedError as error:
        raise stop.noted() from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
