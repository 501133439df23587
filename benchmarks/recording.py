"""What Dagster takes of an import: the same partitions recorded, nothing read or published."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from tautulli_pipeline.imports.plan import Destination, Finished, Plan, make_plan
from tautulli_pipeline.imports.receipts import PUBLISHED, ROWS, Receipt
from tautulli_pipeline.imports.session import OpenSource, PublishingHalf, open_source
from tautulli_pipeline.source.partitions import Grid

_BATCH_SIZE = 1000
_IMPORT_ID = "import"


@dataclass(frozen=True)
class FinishedHalf:
    """What the publishing op needs of its half, all partitions of which are acknowledged."""

    source: OpenSource
    plan: Plan
    notice: str = ""

    def coverage(self) -> dict[str, int]:
        """Rows that the import covers, and rows that it leaves alone."""
        return {"total_records": self.plan.total_records, "unchanged": self.plan.unchanged}

    def receipts(self) -> Iterator[tuple[Receipt, Finished]]:
        """One for each partition."""
        now = datetime.now(UTC).replace(tzinfo=None)
        for part in self.plan.work:
            first = Grid.ranges(part.key)[0].first
            rows = {
                "source_row_id": range(first, first + part.rows),
                "outcome": [PUBLISHED] * part.rows,
            }
            table = pa.table({n: rows.get(n, [None] * part.rows) for n in ROWS.names}, schema=ROWS)
            receipt = Receipt(_IMPORT_ID, part.key, "default", first + part.rows, now, table, 1.0)
            yield receipt, Finished(_IMPORT_ID, self.plan.versions[part.key])


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        begun_at = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - begun_at


def measure(database: Path, folder: Path) -> dict[str, Any]:
    """Wall seconds of each part that is Dagster's, and how many partitions there were."""
    stopwatch = _Stopwatch()
    with open_source(database, folder / "snapshots") as source, ExitStack() as stack:
        contents = source.survey(None, _BATCH_SIZE)
        with stopwatch.time("importing it and the definitions"):
            from tautulli_pipeline.definitions import defs
            from tautulli_pipeline.orchestration.instance import (
                COMMAND_LINE_TAGS,
                QUIET,
                open_instance,
            )
            from tautulli_pipeline.orchestration.partitions import (
                finished_partitions,
                known_grid,
                show_partitions,
            )
            from tautulli_pipeline.orchestration.preparation import PreparedPublishing
        with stopwatch.time("opening the instance"):
            instance = stack.enter_context(open_instance(folder))
        with stopwatch.time("reading and showing partitions"):
            known_grid(instance)
            destination = Destination("default", "warehouse", "stream")
            finished = finished_partitions(instance)
            plan = make_plan(contents, finished, destination, _IMPORT_ID, fresh=False)
            show_partitions(instance, plan.versions)
        with stopwatch.time("the run with its materializations"):
            job = defs.resolve_job_def("import_job")
            half = PreparedPublishing(cast("PublishingHalf", FinishedHalf(source, plan)))
            job.execute_in_process(
                instance=instance,
                resources={**job.resource_defs, "publishing": half},
                run_config=QUIET,
                tags={**COMMAND_LINE_TAGS},
            )
    return {"partitions": len(plan.work), "seconds": stopwatch.seconds}
