"""Real runs that succeed or fail at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from tautulli_pipeline.orchestration.stops import fault_as_failure

if TYPE_CHECKING:
    from collections.abc import Mapping


def run_job(
    instance: dg.DagsterInstance,
    name: str,
    error: BaseException | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Run a job of this name, which fails with `error` if that is given."""

    @dg.op
    def work() -> None:
        with fault_as_failure():
            if error is not None:
                raise error

    @dg.job(name=name)
    def job() -> None:
        work()

    job.execute_in_process(instance=instance, tags=dict(tags or {}), raise_on_error=False)
