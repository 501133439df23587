from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautulli_pipeline.source.partitions import (
    LAST_GRID_ID,
    MAX_PARTITIONS,
    OTHER,
    Grid,
    Partition,
)
from tautulli_pipeline.source.reader import IdRange

WIDTHS = st.integers(1, 100_000) | st.integers(1, LAST_GRID_ID)
EDGES = st.sampled_from(
    [-(2**63), -1, 0, 1, 2, LAST_GRID_ID - 1, LAST_GRID_ID, LAST_GRID_ID + 1, 2**63 - 1]
)
ANY_ID = EDGES | st.integers(-(2**63), 2**63 - 1) | st.integers(1, LAST_GRID_ID)
GRID_ID = st.integers(1, LAST_GRID_ID) | st.integers(1, 5000) | st.just(LAST_GRID_ID)


def counting(ids):
    return lambda width: len({(i - 1) // width for i in ids})


@given(WIDTHS, ANY_ID)
def test_an_id_is_in_exactly_one_range_of_its_partition(width, row_id):
    ranges = Grid(width).partition_of(row_id).ranges
    assert [ids.first <= row_id <= ids.last for ids in ranges].count(True) == 1


@given(WIDTHS, GRID_ID, GRID_ID)
def test_keys_sort_like_ids_and_other_comes_last(width, one, another):
    grid = Grid(width)
    first, second = (grid.partition_of(row_id) for row_id in sorted((one, another)))
    assert first.key <= second.key < OTHER.key
    assert (first.key == second.key) == (first == second)


@given(WIDTHS, GRID_ID)
def test_partitions_adjoin_without_gap_or_overlap(width, row_id):
    grid = Grid(width)
    partition = grid.partition_of(row_id)
    (ids,) = partition.ranges
    assert grid.partition_of(ids.first) == grid.partition_of(ids.last) == partition
    assert partition.last_id == ids.last
    if ids.first > 1:
        assert grid.partition_of(ids.first - 1).last_id == ids.first - 1
    if ids.last < LAST_GRID_ID:
        assert grid.partition_of(ids.last + 1).ranges[0].first == ids.last + 1


@given(WIDTHS, GRID_ID)
def test_a_partition_knows_its_grid_unless_it_is_the_last(width, row_id):
    partition = Grid(width).partition_of(row_id)
    is_last = partition.key.endswith(str(LAST_GRID_ID))
    assert partition.grid == (None if is_last else Grid(width))


def test_other_has_no_grid():
    assert OTHER.grid is None


@given(WIDTHS, ANY_ID)
def test_a_key_identifies_its_partition(width, row_id):
    partition = Grid(width).partition_of(row_id)
    parsed = Partition.parse(partition.key)
    assert parsed == partition
    assert (parsed.key, parsed.grid) == (partition.key, partition.grid)
    assert len({parsed, partition}) == 1


@pytest.mark.parametrize(
    "key",
    [
        *("", "others", "Other", "1-10", "0000000001", "0000000001-0000000010-0000000020"),
        *("0000000000-0000000010", "0000000010-0000000001", "000000001-0000000010"),
        *("0000000001-9999999999 ", "0000000001-10000000000", "-000000001-0000000010"),
        *("+000000001-0000000010", "0000000_01-0000000010", "000000000x-0000000010"),
    ],
)
def test_an_invalid_key_is_rejected(key):
    with pytest.raises(ValueError, match=r".+"):
        Partition.parse(key)


@pytest.mark.parametrize(
    ("row_id", "key"),
    [
        (1, "0000000001-0000001000"),
        (1000, "0000000001-0000001000"),
        (1001, "0000001001-0000002000"),
        (9_999_999_999, "9999999001-9999999999"),
        (10_000_000_000, "other"),
        (0, "other"),
        (-1, "other"),
    ],
)
def test_keys_are_padded_inclusive_ranges(row_id, key):
    assert Grid(1000).partition_of(row_id).key == key


def test_other_contains_every_id_outside_the_grid():
    assert OTHER.key == "other"
    assert OTHER.ranges == (IdRange(-(2**63), 0), IdRange(10**10, 2**63 - 1))


@given(st.integers(1, 100_000), st.sets(GRID_ID, max_size=700))
def test_a_fitting_grid_never_makes_too_many_partitions(batch_size, ids):
    grid = Grid.fitting(batch_size, counting(ids))
    assert len({grid.partition_of(i) for i in ids}) <= MAX_PARTITIONS
    assert grid.width % batch_size == 0


@pytest.mark.parametrize(
    ("rows", "apart", "width"),
    [(500, 1, 10), (5000, 1, 10), (5001, 1, 20), (1_000_000, 1, 2000), (500, 10**7, 10)],
)
def test_a_fitting_grid_is_no_wider_than_necessary(rows, apart, width):
    ids = range(1, rows * apart + 1, apart)
    assert Grid.fitting(10, counting(ids)).width == width


def test_widely_spaced_rows_get_a_wider_grid():
    ids = range(1, 6_000_000_000, 10_000_000)
    grid = Grid.fitting(1, counting(ids))
    assert len({grid.partition_of(i) for i in ids}) <= MAX_PARTITIONS
    assert grid.width < 40_000_000


@pytest.mark.parametrize(
    ("width", "batch_size", "ranges", "fits"),
    [
        (1000, 1000, 700, True),  # the database has grown since
        (2000, 1000, 700, True),  # widened, as so many ranges are too many
        (2000, 1000, 400, False),
        (1000, 2000, 10, False),
        (2500, 1000, 700, False),
    ],
)
def test_a_grid_fits_the_batch_sizes_that_can_produce_it(width, batch_size, ranges, fits):
    assert Grid(width).fits(batch_size, lambda _width: ranges) is fits
