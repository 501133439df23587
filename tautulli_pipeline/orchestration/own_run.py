"""Runs of jobs that the command line executes itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import dagster as dg

from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS, QUIET
from tautulli_pipeline.orchestration.workers import own_process_tag


class OwnRun:
    """A run of `job` in a thread of this process; in the main one, Dagster would take the signals.

    Args:
        resources: what the job works with, in place of what its definition says.
        begin: called in the thread before the run.
    """

    def __init__(
        self,
        job: dg.JobDefinition,
        resources: Mapping[str, object],
        instance: dg.DagsterInstance,
        import_id: str,
        *,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._job = job
        self._resources = resources
        self._instance = instance
        self._import_id = import_id
        self._begin = begin
        self._outcome: list[BaseException] = []
        self._thread = threading.Thread(target=self._execute, name=job.name, daemon=True)
        self._thread.start()

    def ends_within(self, seconds: float) -> bool:
        """Wait that long for its end; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def raise_fault(self) -> None:
        """Raise what ended it, if that was a fault."""
        if self._outcome:
            raise self._outcome[0]

    def _execute(self) -> None:
        self._begin()
        try:
            self._job.execute_in_process(
                instance=self._instance,
                resources={**self._job.resource_defs, **self._resources},
                run_config=QUIET,
                tags={
                    **COMMAND_LINE_TAGS,
                    **own_process_tag(),
                    "tautulli_pipeline/import_id": self._import_id,
                },
            )
        except BaseException as error:  # raised again by whoever waits for the thread
            self._outcome.append(error)
