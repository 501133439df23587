"""What was measured so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class What(StrEnum):
    """What a run did, as the results name it."""

    DIRECT = "direct copy by DuckDB"
    FIRST = "import"
    FRESH = "import --fresh, all duplicates"
    NOTHING_NEW = "import, nothing new"
    APPENDED = "import, 500 new rows"
    ADR = "the ADR's own algorithm"
    DLT = "dlt, merge"


OURS: Final = (What.FIRST, What.FRESH, What.NOTHING_NEW, What.APPENDED)
# Runs that bring every row of the database.
WHOLE: Final = (What.DIRECT, What.FIRST, What.FRESH, What.ADR, What.DLT)


@dataclass(frozen=True)
class ProcessUse:
    """What one process took: the most memory it held, and processor time."""

    peak_mib: float
    cpu_seconds: float


@dataclass(frozen=True)
class Run:
    """One run over a database.

    Attributes:
        rows: rows of the database.
        seconds: wall time.
        processes: each process by its role.
        outcomes: what became of the rows, in words.
    """

    what: What
    rows: int
    seconds: float
    processes: Mapping[str, ProcessUse]
    outcomes: str = ""

    @property
    def rows_per_second(self) -> float | None:
        """None where it did not bring every row."""
        return self.rows / self.seconds if self.what in WHOLE else None


@dataclass(frozen=True)
class Recording:
    """What Dagster takes of an import.

    Attributes:
        rows: rows of the database.
        partitions: how many were recorded, with two materializations each.
        seconds: wall time of each part.
    """

    rows: int
    partitions: int
    seconds: Mapping[str, float]

    @property
    def total_seconds(self) -> float:
        """All of it."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class StageProfile:
    """Processor seconds of each stage over `rows` rows."""

    rows: int
    cpu_seconds: Mapping[str, float]


@dataclass
class Measurements:
    """All of it, in the order in which it was measured."""

    runs: list[Run] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    profile: StageProfile | None = None
    dlt_version: str | None = None

    def find(self, what: What, rows: int) -> Run | None:
        """That run, if there was one."""
        return next((r for r in self.runs if (r.what, r.rows) == (what, rows)), None)

    def of(self, what: What) -> list[Run]:
        """Such runs of all sizes."""
        return [run for run in self.runs if run.what == what]

    def ratio_to_direct_copy(self, run: Run) -> float | None:
        """Its rows a second, the direct copy's of the same rows being 1."""
        direct = self.find(What.DIRECT, run.rows)
        if direct is None or run.what not in WHOLE:
            return None
        return direct.seconds / run.seconds

    def dagster_share(self, rows: int) -> float | None:
        """Seconds that Dagster takes, of the wall time of the first import."""
        first = self.find(What.FIRST, rows)
        recording = next((r for r in self.recordings if r.rows == rows), None)
        return recording.total_seconds / first.seconds if recording and first else None
