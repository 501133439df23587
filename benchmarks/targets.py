"""Performance targets of the import, checked against the measurements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.measurements import IMPORTS, Measurements, RunKind

SMALL: Final = 100_000
LARGE: Final = 1_000_000


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: the quantity that is measured.
        required: the comparison and the required value.
        measured: the measured value.
        met: whether the target is met.
    """

    name: str
    required: str
    measured: str
    met: bool


def judge(measured: Measurements) -> list[Target]:
    """Return the targets for which there are measurements."""
    return [
        *_relative_to_others(measured),
        *_scaling(measured),
        *_repeated_imports(measured),
        *_dagster(measured),
        *_memory(measured),
    ]


def _at_least(name: str, value: float, limit: float, unit: str) -> Target:
    return Target(name, f"≥ {limit:g}{unit}", f"{value:.2f}{unit}", value >= limit)


def _at_most(name: str, value: float, limit: float, unit: str) -> Target:
    return Target(name, f"≤ {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit)


def _less_than(name: str, value: float, limit: float, unit: str) -> Target:
    return Target(name, f"< {limit:g}{unit}", f"{value:.2f}{unit}", value < limit)


def _relative_to_others(measured: Measurements) -> Iterator[Target]:
    large = measured.find(RunKind.FIRST, LARGE)
    ratio = measured.ratio_to_direct_copy(large) if large else None
    if ratio is not None:
        yield _at_least(f"{LARGE:,} rows: speed relative to the direct copy", ratio, 0.20, "")
    for dlt in measured.of(RunKind.DLT):
        if first := measured.find(RunKind.FIRST, dlt.rows):
            times = dlt.seconds / first.seconds
            yield _at_least(f"{dlt.rows:,} rows: speedup over dlt's merge", times, 15, "x")
    adr, first = measured.find(RunKind.ADR, SMALL), measured.find(RunKind.FIRST, SMALL)
    if adr and first:
        times = adr.seconds / first.seconds
        yield _at_least(f"{SMALL:,} rows: speedup over the ADR's algorithm", times, 8, "x")


def _scaling(measured: Measurements) -> Iterator[Target]:
    small, large = measured.find(RunKind.FIRST, SMALL), measured.find(RunKind.FIRST, LARGE)
    if small and large:
        times = large.seconds / small.seconds
        yield _at_most(f"wall time of {LARGE:,} rows relative to {SMALL:,} rows", times, 11, "x")


def _repeated_imports(measured: Measurements) -> Iterator[Target]:
    for size in (SMALL, LARGE):
        first, fresh = measured.find(RunKind.FIRST, size), measured.find(RunKind.FRESH, size)
        if first and fresh:
            times = first.seconds / fresh.seconds
            yield _at_least(
                f"{size:,} duplicates: speed relative to the first import", times, 1, "x"
            )
    if again := measured.find(RunKind.NOTHING_NEW, LARGE):
        yield _less_than(f"{LARGE:,} rows, nothing new: wall time", again.seconds, 10, " s")
    if appended := measured.find(RunKind.APPENDED, LARGE):
        yield _less_than(f"500 new rows after {LARGE:,}: wall time", appended.seconds, 15, " s")


def _dagster(measured: Measurements) -> Iterator[Target]:
    share = measured.dagster_share(LARGE)
    if share is not None:
        yield _at_most(f"Dagster's share of the import of {LARGE:,} rows", 100 * share, 25, " %")


def _memory(measured: Measurements) -> Iterator[Target]:
    peaks = {
        (use.peak_mib, name)
        for kind in IMPORTS
        for run in measured.of(kind)
        for name, use in run.processes.items()
    }
    if peaks:
        peak, name = max(peaks)
        yield _at_most(f"peak memory of the largest import process ({name})", peak, 600, " MiB")
    small, large = measured.find(RunKind.FIRST, SMALL), measured.find(RunKind.FIRST, LARGE)
    if small and large:
        for name in sorted(small.processes.keys() & large.processes.keys()):
            times = large.processes[name].peak_mib / small.processes[name].peak_mib
            title = f"peak memory of {name} at {LARGE:,} rows relative to {SMALL:,}"
            yield _at_most(title, times, 1.2, "x")
