"""How long a database says it is, in the first page of the file."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.source.damage import SALVAGE_HINT
from tautulli_pipeline.source.snapshot import Snapshot

# Page size; change counter and page count; the change counter for which the count holds.
_FIELDS: Final = struct.Struct(">16xH6xII60xI")
_PAGE_COUNT_AT: Final = 28


def require_whole(snapshot: Snapshot) -> None:
    """Refuse a copy that ends before the database does.

    Raises:
        SourceDamagedError: its end is missing.
    """
    page_bytes, pages = _claimed(snapshot.path)
    size_bytes = snapshot.path.stat().st_size
    if size_bytes < page_bytes * pages:
        raise SourceDamagedError(
            f"cannot read all of {snapshot.source}: it is cut short, "
            f"{size_bytes:,} of {page_bytes * pages:,} bytes are there",
            hint=SALVAGE_HINT,
        )


def accept_length(snapshot: Snapshot) -> None:
    """Make the copy say that it ends where it does; SQLite refuses it otherwise."""
    page_bytes, pages = _claimed(snapshot.path)
    whole_pages = snapshot.path.stat().st_size // page_bytes if pages else 0
    if whole_pages < pages:
        with snapshot.path.open("r+b") as file:
            file.seek(_PAGE_COUNT_AT)
            file.write(struct.pack(">I", whole_pages))


def _claimed(copy: Path) -> tuple[int, int]:
    """Page size and page count; no pages where something else tells their number."""
    beside = (copy.with_name(copy.name + suffix) for suffix in ("-wal", "-journal"))
    with copy.open("rb") as file:
        header = file.read(_FIELDS.size)
    if len(header) < _FIELDS.size or any(path.exists() for path in beside):
        return 0, 0
    size, counter, pages, counted_at = _FIELDS.unpack(header)
    return (65_536 if size == 1 else size), (pages if size and counter == counted_at else 0)
