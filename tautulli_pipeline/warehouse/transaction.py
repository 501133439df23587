"""Transactions that are safe when a DuckDB commit fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb


class FailedCommitError(duckdb.TransactionException):
    """A commit failed, so that the connection may no longer be written with."""


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit everything in the block, or nothing.

    If a commit fails because memory or disk space runs out, DuckDB 1.5 leaves keys
    without rows in its unique indexes. Closing the file would store them, and no row
    could ever have these keys. So the file is not checkpointed after such a commit, and
    recovers as after a crash.

    Raises:
        FailedCommitError: the commit failed; the warehouse has to be reopened.
    """
    connection.begin()
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # the connection is of no more use then
            connection.rollback()
        raise
    try:
        connection.commit()
    except duckdb.Error as error:
        with suppress(duckdb.FatalException):  # closing writes nothing after a fatal error
            connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        raise FailedCommitError(str(error)) from error
