"""What the analytics hold in a sentence, kept in a small file, so that nobody has to open them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir

if TYPE_CHECKING:
    import duckdb

_SUMMARY: Final = """
    SELECT count(*), count(DISTINCT person), coalesce(sum(watched_seconds), 0)::BIGINT,
        max(started_at)
    FROM plays
"""
_HOUR: Final = 3600


@dataclass(frozen=True)
class Summary:
    """The sums over all plays.

    Attributes:
        plays: their number.
        people: who played them.
        seconds: the time played.
        newest: the local start of the newest play; None without plays.
    """

    plays: int
    people: int
    seconds: int
    newest: datetime | None

    @property
    def sentence(self) -> str:
        """The sums in words."""
        if self.newest is None:
            return "there are no plays yet"
        newest = f"{self.newest.day} {self.newest:%b %Y, %H:%M}"
        if self.plays == 1:
            return f"there is 1 play, which started on {newest}"
        by = f" by {self.people:,} people" if self.people > 1 else ""
        time = f" in {self.seconds / _HOUR:,.0f} hours" if self.seconds >= _HOUR else ""
        return f"there are {self.plays:,} plays{by}{time}; the newest started on {newest}"


_STORED: Final = TypeAdapter(Summary)


def summarize(connection: duckdb.DuckDBPyConnection) -> Summary:
    """Return the sums over the table `plays`."""
    return Summary(*connection.execute(_SUMMARY).fetchall()[0])


def write_summary(layout: DataDir, summary: Summary) -> None:
    """Keep the summary of the analytics that were just built."""
    write_atomically(layout.analytics_summary, _STORED.dump_json(summary))


def read_summary(layout: DataDir) -> Summary | None:
    """Return the summary of the last build, if there is one."""
    with suppress(OSError, ValidationError):
        return _STORED.validate_json(layout.analytics_summary.read_bytes())
    return None
