"""Dagster's launcher of runs, which also tells its monitoring whether a run's process lives."""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from tautulli_pipeline.orchestration.workers import worker_of


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
