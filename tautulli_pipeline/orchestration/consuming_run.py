"""The run of `consume_job` that shows what the consumer process of an import does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

import dagster as dg

from tautulli_pipeline.orchestration.assets import Consumed
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.consumer_handle import ConsumerHandle
from tautulli_pipeline.orchestration.own_run import OwnRun
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.warehouse.arrivals import Arrivals

_POLL_SECONDS: Final = 0.05
_RECORDED_WITHIN_SECONDS: Final = 10.0


class _ConsumingElsewhere:
    """What another process consumes and writes.

    Dagster sets up logging anew at the start of a run, which another run in the same process
    must not be at work with, or each may wait for the other for ever. So this run stands still
    from when it is under way until nothing else does.
    """

    def __init__(self, ended: Future[Arrivals]) -> None:
        self._ended = ended
        self.under_way = threading.Event()
        self.may_end = threading.Event()

    def consume(self, _warehouse: Warehouse) -> Consumed:
        """Wait for the end of it."""
        self.under_way.set()
        self.may_end.wait()
        return Consumed(self._ended.result())


@contextmanager
def consuming(
    consumer: ConsumerHandle, instance: dg.DagsterInstance, import_id: str
) -> Iterator[None]:
    """Record what a consumer does that has begun; it ends with the context.

    Other runs of this process begin and end within the context.

    Raises:
        Exception: the recording failed.
    """
    from tautulli_pipeline.definitions import defs

    # The checks look through the whole table; whoever runs Dagster has them run there.
    job = defs.resolve_job_def("consume_job").get_subset(
        asset_selection={TABLE_KEY}, asset_check_selection=set()
    )
    elsewhere = _ConsumingElsewhere(consumer.ended)
    run = OwnRun(job, {"consuming": elsewhere}, instance, import_id)
    while not elsewhere.under_way.wait(_POLL_SECONDS):
        if run.ends_within(0):
            run.raise_fault()
    try:
        yield
    except KeyboardInterrupt:  # a person who would not wait for the batch in hand
        consumer.kill()
        raise
    finally:
        consumer.finish()
        elsewhere.may_end.set()
        run.ends_within(_RECORDED_WITHIN_SECONDS)
    run.raise_fault()
