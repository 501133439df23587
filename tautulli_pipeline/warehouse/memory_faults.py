"""Tells DuckDB's errors for a lack of memory from those of the disk."""

from __future__ import annotations

import re
from typing import Final

_MEMORY: Final = re.compile(r"out of memory|allocate|bad_?\s?alloc|new limit", re.IGNORECASE)
# "offload": there is no room on the disk for what does not fit into memory.
_DISK: Final = re.compile(r"offload|No space left|Disk quota|File too large", re.IGNORECASE)


def is_out_of_memory(error: BaseException | str) -> bool:
    """Whether an error of DuckDB, or its message, is about memory.

    A checkpoint without enough memory fails with an `IOException`. The lines after the first one
    are advice, which names both memory and disk.
    """
    cause, _, _ = str(error).partition("\n")
    return bool(_MEMORY.search(cause)) and not _DISK.search(cause)
