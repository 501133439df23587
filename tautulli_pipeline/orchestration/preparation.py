"""From an open source to a publishing half that knows what is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import dagster as dg

from tautulli_pipeline.imports.plan import Destination, make_plan
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.imports.record import ImportRecord
from tautulli_pipeline.imports.session import OpenSource, PublishingHalf
from tautulli_pipeline.orchestration.partitions import (
    finished_partitions,
    known_grid,
    show_partitions,
)
from tautulli_pipeline.orchestration.services import data_paths
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import open_reader
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.stream.session import PublishingSession


@dataclass(frozen=True)
class PreparedPublishing:
    """A publishing half that whoever started the run has opened."""

    half: PublishingHalf

    @contextmanager
    def open(self, _instance: dg.DagsterInstance) -> Iterator[PublishingHalf]:
        """The half as it is."""
        yield self.half


def _grid_notice(settings: Settings, source: OpenSource, grid: Grid | None) -> str:
    """That a batch size somebody set has no effect on this data directory, or ''."""
    batch_size = settings.import_batch_size
    was_set = "import_batch_size" in settings.model_fields_set
    if grid is None or not was_set or source.fits(grid, batch_size):
        return ""
    return (
        f"batches stay at {grid.width} records, as the first import of {settings.data_dir} "
        f"set them; `tautulli-pipeline reset` lets the next one take {batch_size}"
    )


@contextmanager
def prepare_publishing(
    settings: Settings,
    record: ImportRecord,
    source: OpenSource,
    contents: Sequence[PartitionContent],
    *,
    instance: dg.DagsterInstance,
    session: PublishingSession,
    warehouse_id: str,
) -> Iterator[PublishingHalf]:
    """Plan the import and make its partitions known to Dagster.

    What reads the source is opened when something is to be published, and closed with the
    context: whoever publishes may be in another thread, and not at its end.
    """
    destination = Destination(settings.import_server_id, warehouse_id, str(session.identity))
    plan = make_plan(
        contents,
        finished_partitions(instance),
        destination,
        record.import_id,
        fresh=record.fresh,
    )
    notice = _grid_notice(settings, source, known_grid(instance))
    show_partitions(instance, plan.versions)
    folder = ReceiptFolder(data_paths(settings).receipts / record.import_id)

    with ExitStack() as stack:

        def open_publication() -> Publication:
            copy = source.snapshot
            opened = open_reader(copy.path, source.schema, named=copy.source)
            return Publication(
                record.import_id,
                settings.import_server_id,
                stack.enter_context(opened),
                source.schema,
                session,
                source.salvage.unreadable,
            )

        yield PublishingHalf(source, open_publication, plan, folder, plan.work, notice)
