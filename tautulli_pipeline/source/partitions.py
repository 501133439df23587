"""The fixed grid of id ranges that history is cut into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.source.schema import LARGEST_ID, SMALLEST_ID

OTHER: Final = "other"
MAX_PARTITIONS: Final = 500
LAST_GRID_ID: Final = 9_999_999_999


@dataclass(frozen=True)
class Grid:
    """Ranges of `width` ids, from 1 up; ids beyond ten digits share the partition `other`."""

    width: int

    @classmethod
    def of_key(cls, key: str) -> Grid | None:
        """The grid that `key` belongs to; None where it does not tell.

        The last partition ends where ten digits end, be it as wide as the others or not.
        """
        ids = cls.ranges(key)[0]
        if key == OTHER or ids.last == LAST_GRID_ID:
            return None
        return cls(ids.last - ids.first + 1)

    @classmethod
    def fitting(cls, batch_size: int, count_ranges: Callable[[int], int]) -> Grid:
        """As wide as a batch, or wider where that makes too many partitions.

        Args:
            batch_size: rows of a batch.
            count_ranges: how many ranges of a width hold rows.
        """
        width = batch_size
        # Rows far apart stay in ranges of their own, so one step may not do.
        while (ranges := count_ranges(width)) > MAX_PARTITIONS:
            width *= max(2, -(-ranges // MAX_PARTITIONS))
        return cls(width)

    def fits(self, batch_size: int, count_ranges: Callable[[int], int]) -> bool:
        """Whether it is what `fitting` gives or once gave for that size of batch."""
        widened = self.width % batch_size == 0 and count_ranges(batch_size) > MAX_PARTITIONS
        return self.width == batch_size or widened

    def key_of(self, row_id: int) -> str:
        """The partition that holds `row_id`."""
        if not 1 <= row_id <= LAST_GRID_ID:
            return OTHER
        first = (row_id - 1) // self.width * self.width + 1
        return f"{first:010d}-{min(first + self.width - 1, LAST_GRID_ID):010d}"

    @staticmethod
    def ranges(key: str) -> tuple[IdRange, ...]:
        """The inclusive id ranges of a partition."""
        if key == OTHER:
            return IdRange(SMALLEST_ID, 0), IdRange(LAST_GRID_ID + 1, LARGEST_ID)
        first, last = key.split("-")
        return (IdRange(int(first), int(last)),)
