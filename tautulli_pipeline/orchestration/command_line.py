"""Dagster runs that the command line executes in its own process, without a daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import dagster as dg

from tautulli_pipeline.imports.coordinator import Import
from tautulli_pipeline.imports.stopping import SIGNALS, Stop
from tautulli_pipeline.memory import freeze_gc
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.history import DagsterHistory, last_materialized_at
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS, QUIET, open_instance
from tautulli_pipeline.orchestration.options import ImportOptions
from tautulli_pipeline.orchestration.run_tables import arrival_metadata
from tautulli_pipeline.orchestration.workers import PROCESS_TAG, fail_orphaned_runs
from tautulli_pipeline.settings import Settings


def import_by_jobs(opened: Import, settings: Settings, stop: Stop) -> None:
    """Run `import_job` if any partition is due, then `consume_job` if any event arrived.

    Raises:
        StoppedError: a stop was requested; the import can be resumed.
        PipelineError: the import failed; it can be resumed.
    """
    from tautulli_pipeline.definitions import defs

    @contextmanager
    def importing(_context: dg.OpExecutionContext, _options: ImportOptions) -> Iterator[Import]:
        # Dagster installs its own signal handlers for each step.
        with stop.heard(), opened.consumer.ended_after_failure():
            yield opened

    # Dagster prints errors to stderr that it also raises.
    with open_instance(settings.data_dir) as instance, redirect_stderr(StringIO()):
        fail_orphaned_runs(instance)
        freeze_gc()
        history = DagsterHistory(instance)
        tags = {
            **COMMAND_LINE_TAGS,
            PROCESS_TAG: str(os.getpid()),
            # Without it, the UI does not list the run on the page of its job.
            ".dagster/repository": "__repository__@tautulli_pipeline.definitions",
            "tautulli_pipeline/import_id": opened.record.import_id,
        }
        if opened.prepare(history).work:
            job = defs.resolve_job_def("import_job")
            _execute(job, {"importing": importing}, instance, tags, stop)
        else:
            opened.publish(history)
        arrivals = opened.consumer.finish(last_materialized_at(instance))
        if arrivals is not None and arrivals.has_changes:
            # The checks scan the whole table. They run when Dagster itself runs `consume_job`.
            job = defs.resolve_job_def("consume_job").get_subset(
                asset_selection={TABLE_KEY}, asset_check_selection=set()
            )
            metadata = arrival_metadata(arrivals, settings.warehouse_path)
            consuming = {"consuming": lambda _context, _warehouse: metadata}
            _execute(job, consuming, instance, tags, stop)


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
