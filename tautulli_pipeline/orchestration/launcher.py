"""Dagster's default run launcher, extended by a health check of run processes."""

from __future__ import annotations

from contextlib import suppress

import dagster as dg
import psutil
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from tautulli_pipeline.orchestration.workers import PROCESS_TAG, worker_of


class WatchfulRunLauncher(dg.DefaultRunLauncher):
    """Detects runs whose code server, daemon or command line was killed."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Always true."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether the process of `run` is alive."""
        try:
            worker = worker_of(self._instance, run)
        except LookupError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its process id is not known yet")
        if worker is None:
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process no longer exists")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def terminate(self, run_id: str) -> bool:
        """Terminate a run. An import started from the command line stops as on Ctrl-C."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or PROCESS_TAG not in run.tags:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        worker = worker_of(self._instance, run)
        with suppress(psutil.NoSuchProcess):
            if worker is not None:
                worker.terminate()
                return True
        self._instance.report_run_canceled(run, message="The process of this run no longer exists.")
        return True
