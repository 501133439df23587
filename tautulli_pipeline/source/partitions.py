"""The fixed grid of id ranges that divides the history into partitions."""

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
    """One id range of a grid, or `OTHER`, which covers all ids outside every grid."""

    ranges: tuple[IdRange, ...]

    @classmethod
    def parse(cls, key: str) -> Partition:
        """Return the partition with this key.

        Raises:
            ValueError: `key` is not a partition key.
        """
        if key == _OTHER_KEY:
            return OTHER
        first, last = map(int, key.split("-"))
        partition = cls((IdRange(first, last),))
        if partition.key != key or not 1 <= first <= last <= LAST_GRID_ID:
            raise ValueError(f"{key!r} is not a partition key")
        return partition

    @cached_property
    def key(self) -> str:
        """The partition's key. Keys sort in id order, with `OTHER` last."""
        if len(self.ranges) > 1:
            return _OTHER_KEY
        return f"{self.ranges[0].first:010d}-{self.ranges[0].last:010d}"

    @property
    def last_id(self) -> int:
        """The last id of its first range."""
        return self.ranges[0].last

    @property
    def grid(self) -> Grid | None:
        """The grid of the partition; None if it cannot be determined.

        The last partition ends at ten digits, so it may be narrower than the others.
        """
        if self == OTHER or self.last_id == LAST_GRID_ID:
            return None
        return Grid(self.last_id - self.ranges[0].first + 1)


OTHER: Final = Partition((IdRange(SMALLEST_ID, 0), IdRange(LAST_GRID_ID + 1, LARGEST_ID)))


@dataclass(frozen=True)
class Grid:
    """Ranges of `width` ids starting at 1. Ids outside 1-9999999999 are in `OTHER`."""

    width: int

    @classmethod
    def fitting(cls, batch_size: int, count_ranges: Callable[[int], int]) -> Grid:
        """Return a grid as wide as a batch, or wider if that makes too many partitions.

        `count_ranges` returns how many ranges of a given width have rows.
        """
        width = batch_size
        # Widely spaced rows stay in separate ranges, so one step may not be enough.
        while (ranges := count_ranges(width)) > MAX_PARTITIONS:
            width *= max(2, -(-ranges // MAX_PARTITIONS))
        return cls(width)

    def fits(self, batch_size: int, count_ranges: Callable[[int], int]) -> bool:
        """Whether `fitting` returns, or could once have returned, this grid for `batch_size`."""
        if self.width == batch_size:
            return True
        return self.width % batch_size == 0 and count_ranges(batch_size) > MAX_PARTITIONS

    def partition_of(self, row_id: int) -> Partition:
        """Return the partition that contains `row_id`."""
        if not 1 <= row_id <= LAST_GRID_ID:
            return OTHER
        first = (row_id - 1) // self.width * self.width + 1
        return Partition((IdRange(first, min(first + self.width - 1, LAST_GRID_ID)),))
