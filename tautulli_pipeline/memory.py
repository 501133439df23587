"""Tuning of memory allocators and the garbage collector."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_OBJECTS_PER_COLLECTION: Final = 3_000

_LIBC: Final = ctypes.CDLL(None)


def keep_memory_bounded() -> None:
    """Tune the allocators of this process and its children; call it before importing DuckDB.

    Batches of many megabytes are allocated in one thread and freed in another. With
    glibc's defaults, the process then holds several times the memory in use: over
    100,000 plays, 1.3 GB instead of 0.5 GB. DuckDB's allocator returns unused memory
    after 30 ms instead of one second; returning it immediately makes an import of a
    million plays 5 % slower.

    The stream server remembers two minutes of message ids, about a million at the
    speed of a local import, and Go lets the heap grow to twice the memory in use: 740 MiB
    without a limit, 430 MiB with a limit of 420 MiB, at the cost of 4 % more CPU time.
    """
    os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:30,muzzy_decay_ms:0")
    os.environ.setdefault("GOMEMLIMIT", "480MiB")
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:  # only glibc has it
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 2**17)
        mallopt(_M_TRIM_THRESHOLD, 2**22)


def block_pandas() -> None:
    """Prevent pyarrow from importing pandas at its first conversion.

    pandas takes 42 MiB and half a second to load, and no command needs it.
    """
    sys.meta_path.insert(0, _NoPandas())


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, *_where: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("not loaded in this process", name=fullname)


def release_memory() -> None:
    """Return to the system the freed memory that glibc keeps between allocated blocks.

    Batches leave such fragments: without this, a process that maps or writes batches grows
    by a few megabytes with each, up to twice the memory it needs.
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:  # only glibc has it
        trim(0)


@contextmanager
def loading_modules() -> Iterator[None]:
    """Pause garbage collection while modules load: they create much, and little of it is garbage.

    Loading Dagster takes a tenth less time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def freeze_gc() -> None:
    """Exclude all current objects, mainly imported modules, from garbage collection.

    Collections are then less frequent than by default, but not rare: Dagster's storage handles
    an error for each recorded partition, and its traceback forms a cycle that keeps batches in
    memory. At 50,000 objects per collection, an import of 100,000 plays peaked at 750 MiB
    instead of 530.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
