"""The database size that a SQLite header declares."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.source.damage import SALVAGE_HINT
from tautulli_pipeline.source.snapshot import Snapshot

# Page size; change counter; page count; the change counter for which the count is valid.
_FIELDS: Final = struct.Struct(">16xH6xII60xI")
_PAGE_COUNT_AT: Final = 28


def require_whole(snapshot: Snapshot) -> None:
    """Raise a `SourceDamagedError` if the copy is shorter than its header declares."""
    page_bytes, pages = _declared_size(snapshot.path)
    size_bytes = snapshot.path.stat().st_size
    if size_bytes < page_bytes * pages:
        raise SourceDamagedError(
            f"cannot read all of {snapshot.source}: it is truncated "
            f"({size_bytes:,} of {page_bytes * pages:,} bytes)",
            hint=SALVAGE_HINT,
        )


def accept_length(snapshot: Snapshot) -> None:
    """Set the page count of a truncated copy to its actual size, so that SQLite opens it."""
    page_bytes, pages = _declared_size(snapshot.path)
    whole_pages = snapshot.path.stat().st_size // page_bytes if pages else 0
    if whole_pages < pages:
        with snapshot.path.open("r+b") as file:
            file.seek(_PAGE_COUNT_AT)
            file.write(struct.pack(">I", whole_pages))


def _declared_size(copy: Path) -> tuple[int, int]:
    """Return page size and page count; 0 pages if the header's count is not authoritative."""
    sidecars = (copy.with_name(copy.name + suffix) for suffix in ("-wal", "-journal"))
    with copy.open("rb") as file:
        header = file.read(_FIELDS.size)
    if len(header) < _FIELDS.size or any(path.exists() for path in sidecars):
        return 0, 0
    size, counter, pages, counted_at = _FIELDS.unpack(header)
    return (65_536 if size == 1 else size), (pages if size and counter == counted_at else 0)
