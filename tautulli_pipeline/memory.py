"""Allocators that give memory back, and a collector that does not search for it in vain."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from importlib.abc import MetaPathFinder
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_OBJECTS_PER_COLLECTION: Final = 50_000

_LIBC: Final = ctypes.CDLL(None)


def keep_memory_bounded() -> None:
    """Tune the allocators of this process and its children; call it before DuckDB is imported.

    Batches of many megabytes are made in one thread and freed in another, which
    leaves glibc's defaults holding several times what is in use: measured over
    100,000 plays, 1.3 GB where 0.5 GB do. DuckDB's own allocator hands back after
    30 ms what it does not use, instead of after a second; at once, an import of a
    million takes a twentieth longer.

    The stream server remembers the ids of two minutes, a million at the pace of a local
    import, and Go lets a heap grow to twice of what is in use: 740 MiB without a limit,
    430 with one of 420, for 4 % more of its processor time.
    """
    os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:30,muzzy_decay_ms:0")
    os.environ.setdefault("GOMEMLIMIT", "480MiB")
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:  # other C libraries do without
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 2**17)
        mallopt(_M_TRIM_THRESHOLD, 2**22)


def block_pandas() -> None:
    """Have this process do without pandas, for which pyarrow looks at its first conversion.

    It takes 42 MiB and half a second, and nothing that the command line does needs it.
    """
    sys.meta_path.insert(0, _NoPandas())


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, *_where: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("not loaded in this process", name=fullname)


def release_memory() -> None:
    """Give freed memory back to the system, which glibc keeps between pieces in use.

    Batches leave it in such pieces: without this a process that maps or writes them grows
    by some megabytes with each, to twice of what it needs.
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:  # other C libraries do without
        trim(0)


def freeze_gc() -> None:
    """Take what is there now, the imported modules above all, out of garbage collection.

    What comes by the batch holds no cycles; looking through it is not done as often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
