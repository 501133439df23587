"""All or nothing, also where DuckDB cannot take back what it began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it.

    DuckDB 1.5 leaves keys in its unique indexes, without rows, where a commit ends for
    want of memory or room. Closing the file would store them and no row could ever have
    these keys, so after such a commit it is left to recover as after a crash.
    """
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    try:
        connection.commit()
    except duckdb.Error:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        raise
