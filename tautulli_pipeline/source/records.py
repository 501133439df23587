"""Digests of the rows of a table, from their records as SQLite stores them.

SQLite takes as long to return 140 cells of a row as the rest of a survey. Their record holds the
same in a few kilobytes without a gap, wherever it is in the file. The format is documented in
https://www.sqlite.org/fileformat2.html#b_tree_pages.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import error as struct_error
from struct import unpack_from
from typing import Final

from xxhash import xxh3_128

_HEADER_BYTES: Final = 100
_INTERIOR: Final = 5
_LEAF: Final = 13
_SEVEN_BITS: Final = 127
_LONGEST_VARINT: Final = 9
_SMALLEST_USABLE: Final = 480
_PAGES_IN_MEMORY: Final = 1024
_BEFORE_ALL: Final = -(2**63) - 1


class RecordsUnreadableError(Exception):
    """The pages of a table are not as expected; SQLite may still be able to read them."""


class RecordReader:
    """Reads the records of tables with row numbers from a private copy without a WAL."""

    def __init__(self, file: mmap.mmap) -> None:
        if len(file) < _HEADER_BYTES:
            raise RecordsUnreadableError("no header")
        self._file = file
        self._read = 0
        size = int.from_bytes(file[16:18])
        self._size = 65_536 if size == 1 else size
        self._usable = self._size - file[20]
        if self._usable < _SMALLEST_USABLE:
            raise RecordsUnreadableError("page size")
        self._count = len(file) // self._size
        # The longest record of which a page holds all, and the least that it holds of others.
        self._most = self._usable - 35
        self._least = (self._usable - 12) * 32 // 255 - 23

    def digests(self, root: int, last_of: Callable[[int], int]) -> dict[int, str]:
        """Return digests of the rows of a table by the last row number of their group.

        Args:
            root: the first page of the table.
            last_of: returns the last row number of the group of a row number.

        Raises:
            RecordsUnreadableError: pages of the table are not as expected.
        """
        try:
            return self._digests(root, last_of)
        except (IndexError, struct_error) as error:
            raise RecordsUnreadableError("a page ends too early") from error

    def _digests(self, root: int, last_of: Callable[[int], int]) -> dict[int, str]:
        found: dict[int, str] = {}
        # Fast, and nobody gains anything from two rows with one digest.
        digest, last, group_end = xxh3_128(), _BEFORE_ALL, _BEFORE_ALL
        allowed_bytes = 2 * self._count * self._size
        for page in self._leaves(root):
            for row, record in self._records(page):
                if row <= last:
                    raise RecordsUnreadableError("rows out of order")
                if row > group_end:
                    found[group_end] = digest.hexdigest()
                    digest, group_end = xxh3_128(), last_of(row)
                last = row
                digest.update(record)
                allowed_bytes -= len(record)
            if allowed_bytes < 0:
                raise RecordsUnreadableError("more rows than fit in the file")
        found[group_end] = digest.hexdigest()
        del found[_BEFORE_ALL]
        return found

    def _leaves(self, root: int) -> Iterator[bytes]:
        """Yield the leaf pages of a table in the order of its rows."""
        waiting, read = [root], 0
        while waiting:
            page = self._page(waiting.pop())
            read += 1
            if read > self._count:
                raise RecordsUnreadableError("pages refer to each other in circles")
            if page[0] == _LEAF:
                yield page
            elif page[0] == _INTERIOR:
                places = unpack_from(f">{page[3] << 8 | page[4]}H", page, 12)
                children = [int.from_bytes(page[at : at + 4]) for at in (*places, 8)]
                waiting += reversed(children)
            else:
                raise RecordsUnreadableError("not a page of a table")

    def _records(self, page: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the row number of each row of a leaf page, and its record with what precedes it."""
        most, usable = self._most, self._usable
        for at in unpack_from(f">{page[3] << 8 | page[4]}H", page, 8):
            size, begin = page[at], at + 1
            if size > _SEVEN_BITS:
                size, begin = _varint(page, at)
            row, end = page[begin], begin + 1
            if row > _SEVEN_BITS:
                row, end = _varint(page, begin)
            if size > most:
                yield row, page[at:end] + self._long_record(page, end, size)
                continue
            end += size
            if end > usable:
                raise RecordsUnreadableError("a record ends outside of its page")
            yield row, page[at:end]

    def _long_record(self, page: bytes, begin: int, size: int) -> bytes:
        """Return a record that continues on pages of its own."""
        room = self._usable - 4
        here = self._least + (size - self._least) % room
        here = here if here <= self._most else self._least
        if begin + here + 4 > self._usable or size > self._count * self._size:
            raise RecordsUnreadableError("a record is larger than the file")
        parts, left = [page[begin : begin + here]], size - here
        (following,) = unpack_from(">I", page, begin + here)
        while left:
            following_page = self._page(following)
            parts.append(following_page[4 : 4 + min(left, room)])
            left -= len(parts[-1])
            (following,) = unpack_from(">I", following_page)
        return b"".join(parts)

    def _page(self, number: int) -> bytes:
        if not 1 < number <= self._count:
            raise RecordsUnreadableError("no such page")
        self._read += 1
        if not self._read % _PAGES_IN_MEMORY:
            self._file.madvise(mmap.MADV_DONTNEED)
        return self._file[(number - 1) * self._size : number * self._size]


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """Return an integer of SQLite's variable length, and where it ends."""
    first, second = page[at], page[at + 1]
    if second <= _SEVEN_BITS:
        return (first & _SEVEN_BITS) << 7 | second, at + 2
    third = page[at + 2]
    if third <= _SEVEN_BITS:
        return (first & _SEVEN_BITS) << 14 | (second & _SEVEN_BITS) << 7 | third, at + 3
    value = 0
    for place in range(at, at + _LONGEST_VARINT - 1):
        byte = page[place]
        value = value << 7 | byte & _SEVEN_BITS
        if byte <= _SEVEN_BITS:
            return value, place + 1
    value = value << 8 | page[at + _LONGEST_VARINT - 1]
    return (value - 2**64 if value >= 2**63 else value), at + _LONGEST_VARINT


@contextmanager
def open_records(database: Path) -> Iterator[RecordReader]:
    """Open a private copy to read its records.

    Raises:
        RecordsUnreadableError: it is not a whole database.
    """
    with database.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except ValueError as error:
            raise RecordsUnreadableError("empty") from error
    with mapped:
        yield RecordReader(mapped)
