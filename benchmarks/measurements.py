"""The data types for measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class RunKind(StrEnum):
    """The kind of a run, with its name in the results."""

    DIRECT = "direct copy by DuckDB"
    FIRST = "import"
    FRESH = "import --fresh, all duplicates"
    NOTHING_NEW = "import, nothing new"
    APPENDED = "import, 500 new rows"
    ADR = "the ADR's algorithm"
    DLT = "dlt, merge"


IMPORTS: Final = (RunKind.FIRST, RunKind.FRESH, RunKind.NOTHING_NEW, RunKind.APPENDED)
# Runs that load every row of the database.
LOADS_ALL_ROWS: Final = (RunKind.DIRECT, RunKind.FIRST, RunKind.FRESH, RunKind.ADR, RunKind.DLT)


@dataclass(frozen=True)
class ProcessUse:
    """Peak memory and CPU time of one process."""

    peak_mib: float
    cpu_seconds: float


@dataclass(frozen=True)
class Run:
    """One run over a database.

    Attributes:
        rows: rows of the database.
        seconds: wall time.
        processes: the processes by role.
        outcomes: the counts of each outcome, as text.
    """

    kind: RunKind
    rows: int
    seconds: float
    processes: Mapping[str, ProcessUse]
    outcomes: str = ""

    @property
    def rows_per_second(self) -> float | None:
        """Rows per second; None if the run did not load every row."""
        return self.rows / self.seconds if self.kind in LOADS_ALL_ROWS else None


@dataclass(frozen=True)
class Recording:
    """The time that Dagster takes of an import.

    Attributes:
        rows: rows of the database.
        partitions: number of recorded partitions, each with two materializations.
        seconds: wall time of each part.
    """

    rows: int
    partitions: int
    seconds: Mapping[str, float]

    @property
    def total_seconds(self) -> float:
        """Total of all parts."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class StageProfile:
    """CPU seconds of each stage for `rows` rows."""

    rows: int
    cpu_seconds: Mapping[str, float]


@dataclass
class Measurements:
    """All measurements so far, in order."""

    runs: list[Run] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    profile: StageProfile | None = None
    dlt_version: str | None = None

    def find(self, kind: RunKind, rows: int) -> Run | None:
        """Return the run of this kind and size, if there is one."""
        return next((r for r in self.runs if (r.kind, r.rows) == (kind, rows)), None)

    def of(self, kind: RunKind) -> list[Run]:
        """Return the runs of this kind, of all sizes."""
        return [run for run in self.runs if run.kind == kind]

    def ratio_to_direct_copy(self, run: Run) -> float | None:
        """Return the speed relative to the direct copy of the same rows."""
        direct = self.find(RunKind.DIRECT, run.rows)
        if direct is None or run.kind not in LOADS_ALL_ROWS:
            return None
        return direct.seconds / run.seconds

    def dagster_share(self, rows: int) -> float | None:
        """Return Dagster's seconds as a share of the wall time of the first import."""
        first = self.find(RunKind.FIRST, rows)
        recording = next((r for r in self.recordings if r.rows == rows), None)
        return recording.total_seconds / first.seconds if recording and first else None
