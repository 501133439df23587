"""Receipts: what the publisher knows about each row, kept until the import is settled.

A receipt is written after the last PubAck of its partition. It lists every row, so that the
outcome of each row can be derived from the contents of the warehouse.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.feather

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.warehouse.ledger import LedgerEntry

PUBLISHED: Final = "published"
DUPLICATE: Final = "duplicate"
REJECTED: Final = "rejected"
UNREADABLE: Final = "unreadable"

ROWS: Final = pa.schema(
    [
        ("source_row_id", pa.int64()),
        ("event_id", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("record", pa.string()),
        ("content_hash", pa.uint64()),
    ]
)
_HEAD: Final = b"receipt"


@dataclass(frozen=True)
class Receipt(LedgerEntry):
    """The rows of one published partition, with the columns of `ROWS`.

    Attributes:
        last_sequence: the highest stream sequence among its PubAcks.
        seconds: its share of the time between the previous PubAcks and its own; not stored.
    """

    last_sequence: int
    seconds: float = 0.0


def remove_receipts(layout: DataDir, keep: Collection[str]) -> None:
    """Remove the receipts of all imports except those to keep, which may be resumed."""
    if not layout.receipts.is_dir():
        return
    for folder in layout.receipts.iterdir():
        if folder.name not in keep:
            ReceiptFolder(folder).remove()
    with suppress(OSError):  # some were kept
        layout.receipts.rmdir()


class ReceiptFolder:
    """The receipts of one import."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, receipt: Receipt) -> None:
        """Write `receipt` atomically."""
        self.path.mkdir(parents=True, exist_ok=True)
        head = {**vars(receipt)}
        del head["rows"], head["seconds"]
        rows = receipt.rows.replace_schema_metadata({_HEAD: orjson.dumps(head)})
        content = pa.BufferOutputStream()
        pyarrow.feather.write_feather(rows, content, compression="zstd")
        write_atomically(self.path / receipt.partition_key, content.getvalue().to_pybytes())

    def read(self, partition_key: str) -> Receipt:
        """Return the receipt of a partition."""
        rows = pyarrow.feather.read_table(
            str(self.path / partition_key), memory_map=False, use_threads=False
        )
        head = orjson.loads(rows.schema.metadata[_HEAD])
        head["published_at"] = datetime.fromisoformat(head["published_at"])
        if "content_hash" not in rows.schema.names:  # of version 0.1.0
            rows = rows.append_column("content_hash", pa.nulls(len(rows), pa.uint64()))
        return Receipt(**head, rows=rows.replace_schema_metadata(None))

    def unseen(self, seen: Mapping[str, int]) -> Iterator[tuple[str, int, Receipt]]:
        """Yield key, write time and content of each new or replaced receipt, in key order.

        Receipts may be removed at any moment, by any process that sees the import settled.

        Args:
            seen: write times by key.
        """
        with suppress(FileNotFoundError):
            for entry in sorted(os.scandir(self.path), key=lambda e: e.name):
                if "." not in entry.name:  # not a temporary file
                    written_at = entry.stat().st_mtime_ns
                    if seen.get(entry.name) != written_at:
                        yield entry.name, written_at, self.read(entry.name)

    def remove(self) -> None:
        """Remove all receipts; the ledger is settled."""
        shutil.rmtree(self.path, ignore_errors=True)
