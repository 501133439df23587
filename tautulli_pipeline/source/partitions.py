"""The fixed grid of id ranges that history is cut into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.source.schema import LARGEST_ID, SMALLEST_ID

MAX_PARTITIONS: Final = 500
LAST_GRID_ID: Final = 9_999_999_999

_OTHER_KEY: Final = "other"


@dataclass(frozen=True)
class Partition:
    """The plays of one range of ids on a grid, or `OTHER`: those that no grid holds.

    Attributes:
        ranges: its inclusive id ranges, ascending.
    """

    ranges: tuple[IdRange, ...]

    @classmethod
    def parse(cls, key: str) -> Partition:
        """The partition with that key.

        Raises:
            ValueError: there is no such key.
        """
        if key == _OTHER_KEY:
            return OTHER
        first, last = map(int, key.split("-"))
        partition = cls((IdRange(first, last),))
        if partition.key != key or not 1 <= first <= last <= LAST_GRID_ID:
            raise ValueError(f"{key!r} is not the key of a partition")
        return partition

    @cached_property
    def key(self) -> str:
        """Names it; keys sort as the ids do, with `OTHER` last."""
        if len(self.ranges) > 1:
            return _OTHER_KEY
        return f"{self.ranges[0].first:010d}-{self.ranges[0].last:010d}"

    @property
    def last_id(self) -> int:
        """The last id of its first range."""
        return self.ranges[0].last

    @property
    def grid(self) -> Grid | None:
        """The grid that it belongs to; None where it does not tell.

        The last partition ends where ten digits end, as wide as the others or not.
        """
        if self == OTHER or self.last_id == LAST_GRID_ID:
            return None
        return Grid(self.last_id - self.ranges[0].first + 1)


OTHER: Final = Partition((IdRange(SMALLEST_ID, 0), IdRange(LAST_GRID_ID + 1, LARGEST_ID)))


@dataclass(frozen=True)
class Grid:
    """Ranges of `width` ids, from 1 up; ids beyond ten digits share the partition `OTHER`."""

    width: int

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

    def partition_of(self, row_id: int) -> Partition:
        """The partition that holds `row_id`."""
        if not 1 <= row_id <= LAST_GRID_ID:
            return OTHER
        first = (row_id - 1) // self.width * self.width + 1
        return Partition((IdRange(first, min(first + self.width - 1, LAST_GRID_ID)),))
