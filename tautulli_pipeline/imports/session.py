"""The publishing half of an import, from the source file to its receipts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.plan import Finished, Plan
from tautulli_pipeline.imports.publication import PartitionWork, Publication
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.schema import SourceSchema, read_schema
from tautulli_pipeline.source.snapshot import Snapshot, take_snapshot
from tautulli_pipeline.source.survey import PartitionContent, open_survey


@dataclass(frozen=True)
class OpenSource:
    """A source whose private copy is there and is a Tautulli database."""

    snapshot: Snapshot
    schema: SourceSchema

    def survey(self, grid: Grid | None, batch_size: int) -> list[PartitionContent]:
        """Its partitions with rows, on `grid` or on one made to fit."""
        named = self.snapshot.source
        with open_survey(self.snapshot.path, self.schema, named=named) as survey:
            fitting = grid or Grid.fitting(batch_size, survey.count_ranges)
            return list(survey.partitions(fitting))


@contextmanager
def open_source(path: Path, snapshots_dir: Path) -> Iterator[OpenSource]:
    """Copy the database at `path` and read its schema.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    with take_snapshot(path, snapshots_dir) as snapshot:
        yield OpenSource(snapshot, read_schema(snapshot.path, named=snapshot.source))


@dataclass
class PublishingHalf:
    """Publishes what a plan says is due; stops after the group in hand when asked to."""

    source: OpenSource
    publication: Publication
    plan: Plan
    folder: ReceiptFolder
    work: tuple[PartitionWork, ...]
    on_receipt: Callable[[Receipt], None] = lambda _receipt: None
    stopping: threading.Event = field(default_factory=threading.Event)

    def choose(self, keys: Sequence[str]) -> None:
        """Publish exactly the partitions of `keys`, finished or not."""
        rows = self.plan.rows
        self.work = tuple(PartitionWork(key, rows[key]) for key in sorted(keys) if key in rows)

    def receipts(self) -> Iterator[tuple[Receipt, Finished]]:
        """Each partition as soon as its PubAcks are in and its receipt is stored.

        Raises:
            StoppedError: it was asked to stop; what came before is finished.
        """
        for receipt in self.publication.publish(self.work):
            self.folder.write(receipt)
            version = self.plan.versions[receipt.partition_key]
            yield receipt, Finished(receipt.import_id, version)
            self.on_receipt(receipt)
            if self.stopping.is_set():
                raise StoppedError("the import was stopped", hint="import again to resume it")

    def describe(self) -> dict[str, Any]:
        """Facts of the source file, for its observation."""
        return {
            "path": str(self.source.snapshot.source),
            "size_bytes": self.source.snapshot.size_bytes,
            "fingerprint": self.source.snapshot.fingerprint,
            "tautulli_version": self.source.schema.tautulli_version or "unknown",
            "dagster/row_count": self.plan.total_records + self.plan.unchanged,
        }
