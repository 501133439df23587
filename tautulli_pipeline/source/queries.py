"""Opens private copies with SQLite. Each query can be interrupted, and its time is limited.

A damaged or hostile file can make a query run endlessly: pages can refer to each other in
circles, and a cell can claim to be larger than the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceDamagedError, SourceError
from tautulli_pipeline.source.damage import BACKUP_HINT

DAMAGE_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)

_STEPS_BETWEEN_CHECKS: Final = 20_000
# Sound files need less than a tenth of this.
_LEAST_CPU_SECONDS: Final = 5.0
_BYTES_PER_CPU_SECOND: Final = 1_000_000
_LARGEST_CELL_BYTES: Final = 1_000_000_000
_USE_A_BACKUP: Final = "import a Tautulli backup"


class CopyConnection(sqlite3.Connection):
    """A connection that stops queries once they have used too much CPU time together."""

    def limit(self, database_bytes: int, allowed_seconds: float | None = None) -> None:
        """Set the limits for a database of this size, or the given limit of time."""
        usual_seconds = _LEAST_CPU_SECONDS + database_bytes / _BYTES_PER_CPU_SECOND
        self.allowed_seconds = allowed_seconds or usual_seconds
        self._ends_at = time.thread_time() + self.allowed_seconds
        # Also the limit for all cells of a row as one text.
        longest = min(2 * database_bytes + _BYTES_PER_CPU_SECOND, _LARGEST_CELL_BYTES)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        # Python also handles signals while it runs the check.
        self.set_progress_handler(self._check, _STEPS_BETWEEN_CHECKS)

    @property
    def is_late(self) -> bool:
        """Whether the queries have used more time than allowed."""
        return time.thread_time() > self._ends_at

    def _check(self) -> int:
        return self.is_late


def connect(uri: str) -> CopyConnection:
    """Open a `file:` URI, without limits."""
    return sqlite3.connect(uri, uri=True, isolation_level=None, factory=CopyConnection)


@contextmanager
def open_copy(
    database: Path, *, mode: str = "ro", allowed_seconds: float | None = None
) -> Iterator[CopyConnection]:
    """Open a private copy with limits."""
    with closing(connect(f"{database.absolute().as_uri()}?mode={mode}")) as connection:
        connection.limit(database.stat().st_size, allowed_seconds)
        yield connection


@contextmanager
def explained(connection: CopyConnection, failed: str, *, hint: str = "") -> Iterator[None]:
    """Raise SQLite's errors as our own; their message begins with `failed`.

    Raises:
        SourceDamagedError: SQLite says that the file is damaged.
        SourceError: another error, or the queries took too much time.
        KeyboardInterrupt: a signal interrupted a query.
    """
    try:
        yield
    except UnicodeDecodeError as error:  # in the text of an error
        reason = "a name in its schema is not valid text"
        raise SourceError(f"{failed}: {reason}", hint=hint or _USE_A_BACKUP) from error
    except sqlite3.Error as error:
        code = primary_code(error)
        if code == sqlite3.SQLITE_INTERRUPT and not connection.is_late:
            raise KeyboardInterrupt from error
        if code in DAMAGE_CODES:
            raise SourceDamagedError(f"{failed}: {error}", hint=hint or BACKUP_HINT) from error
        late = f"reading it takes more than {connection.allowed_seconds:,.0f} s of CPU time"
        reason = late if code == sqlite3.SQLITE_INTERRUPT else str(error)
        raise SourceError(f"{failed}: {reason}", hint=hint or _USE_A_BACKUP) from error


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary error code; 0 for an error of Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
