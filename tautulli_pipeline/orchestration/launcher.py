"""Dagster's launcher of runs, which also tells its monitoring whether a run's process lives."""

from __future__ import annotations

from contextlib import suppress

import dagster as dg
import psutil
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from tautulli_pipeline.orchestration.workers import PROCESS_TAG, worker_of


class WatchfulRunLauncher(dg.DefaultRunLauncher):
    """A run of a killed code server, daemon or command line is found dead and not waited for."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It can tell."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Look for the process of `run`."""
        try:
            worker = worker_of(self._instance, run)
        except LookupError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it has not told its process yet")
        if worker is None:
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def terminate(self, run_id: str) -> bool:
        """End a run; an import of the command line stops as it does on Ctrl-C."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or PROCESS_TAG not in run.tags:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        worker = worker_of(self._instance, run)
        with suppress(psutil.NoSuchProcess):
            if worker is not None:
                worker.terminate()
                return True
        self._instance.report_run_canceled(run, message="The process of this run is gone.")
        return True
