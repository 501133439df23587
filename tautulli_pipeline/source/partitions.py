"""The fixed grid of id ranges that history is cut into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tautulli_pipeline.source.reader import IdRange

OTHER: Final = "other"
MAX_PARTITIONS: Final = 500

_LAST_GRID_ID: Final = 9_999_999_999
_SMALLEST_ID: Final = -(2**63)
_LARGEST_ID: Final = 2**63 - 1


@dataclass(frozen=True)
class Grid:
    """Ranges of `width` ids, from 1 up; ids beyond ten digits share the partition `other`."""

    width: int

    @classmethod
    def of_key(cls, key: str) -> Grid:
        """The grid that the partition `key` belongs to."""
        first, last = key.split("-")
        return cls(int(last) - int(first) + 1)

    @classmethod
    def fitting(cls, batch_size: int, batches: int) -> Grid:
        """As wide as a batch, or wider where `batches` would be too many partitions."""
        return cls(batch_size * max(1, -(-batches // MAX_PARTITIONS)))

    def key_of(self, row_id: int) -> str:
        """The partition that holds `row_id`."""
        if not 1 <= row_id <= _LAST_GRID_ID:
            return OTHER
        first = (row_id - 1) // self.width * self.width + 1
        return f"{first:010d}-{min(first + self.width - 1, _LAST_GRID_ID):010d}"

    @staticmethod
    def ranges(key: str) -> tuple[IdRange, ...]:
        """The inclusive id ranges of a partition."""
        if key == OTHER:
            return IdRange(_SMALLEST_ID, 0), IdRange(_LAST_GRID_ID + 1, _LARGEST_ID)
        first, last = key.split("-")
        return (IdRange(int(first), int(last)),)
