"""The time that Dagster takes of an import: records partitions without reading or publishing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tautulli_pipeline.imports.coordinator import PartitionHistory
from tautulli_pipeline.imports.plan import Destination, Finished, Plan, make_plan
from tautulli_pipeline.imports.receipts import PUBLISHED, ROWS, Receipt
from tautulli_pipeline.imports.record import ImportRecord, Status
from tautulli_pipeline.source.opening import OpenSource, open_source
from tautulli_pipeline.source.survey import PartitionContent

_BATCH_SIZE = 1000
_IMPORT_ID = "import"
_DESTINATION = Destination("default", "warehouse", "stream")


@dataclass
class FinishedImport:
    """An open import for Dagster's op and jobs, with all events already acknowledged."""

    source: OpenSource
    contents: Sequence[PartitionContent]
    _plan: Plan | None = None

    def prepare(self, history: PartitionHistory, chosen: Collection[str] | None = None) -> Plan:
        """Plan the partitions that are due; later calls return the same plan."""
        if self._plan is None:
            history.grid()
            finished = history.finished()
            self._plan = make_plan(
                self.contents, finished, _DESTINATION, _IMPORT_ID, fresh=False, chosen=chosen
            )
            history.show(self._plan.versions)
        return self._plan

    @property
    def record(self) -> ImportRecord:
        """The record of an import that completed."""
        begun = ImportRecord.begin(self.source.path, "default", fresh=False)
        return begun.ended(Status.COMPLETED)

    def publish(self, history: PartitionHistory) -> None:
        """Record each partition that is due."""
        plan = self.prepare(history)
        for part in plan.work:
            finished = Finished(_IMPORT_ID, plan.versions[part.key])
            content = plan.contents[part.key]
            history.record(_receipt(content), content, finished)


def _receipt(content: PartitionContent) -> Receipt:
    first = content.partition.ranges[0].first
    rows = {
        "source_row_id": range(first, first + content.rows),
        "outcome": [PUBLISHED] * content.rows,
    }
    table = pa.table({n: rows.get(n, [None] * content.rows) for n in ROWS.names}, schema=ROWS)
    now = datetime.now(UTC).replace(tzinfo=None)
    return Receipt(_IMPORT_ID, content.key, "default", now, table, first + content.rows, 1.0)


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        begun_at = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - begun_at


def measure(database: Path, folder: Path) -> dict[str, Any]:
    """Return the wall seconds of each part of Dagster, and the number of partitions."""
    stopwatch = _Stopwatch()
    with open_source(database, folder / "snapshots") as source, ExitStack() as stack:
        opened = FinishedImport(source, source.survey(None, _BATCH_SIZE))
        with stopwatch.time("loading Dagster and the definitions"):
            from tautulli_pipeline.definitions import defs
            from tautulli_pipeline.orchestration.history import DagsterHistory
            from tautulli_pipeline.orchestration.instance import (
                COMMAND_LINE_TAGS,
                QUIET,
                open_instance,
            )
        with stopwatch.time("opening the instance"):
            instance = stack.enter_context(open_instance(folder))
        with stopwatch.time("reading and registering partitions"):
            plan = opened.prepare(DagsterHistory(instance))
        with stopwatch.time("the run and its materializations"):
            job = defs.resolve_job_def("import_job")
            job.execute_in_process(
                instance=instance,
                resources={**job.resource_defs, "importing": lambda *_asked: nullcontext(opened)},
                run_config=QUIET,
                tags={**COMMAND_LINE_TAGS},
            )
    return {"partitions": len(plan.work), "seconds": stopwatch.seconds}
