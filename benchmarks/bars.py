"""The bars that an import has to reach, judged by what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.measurements import OURS, Measurements, What

SMALL: Final = 100_000
LARGE: Final = 1_000_000


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: what is asked.
        asked: how much of it, with the comparison before it.
        measured: what it came to.
    """

    name: str
    asked: str
    measured: str
    reached: bool


def judge(measured: Measurements) -> list[Bar]:
    """The bars whose runs were made."""
    return [
        *_against_others(measured),
        *_over_sizes(measured),
        *_when_repeated(measured),
        *_dagster(measured),
        *_memory(measured),
    ]


def _at_least(name: str, value: float, bar: float, unit: str) -> Bar:
    return Bar(name, f"≥ {bar:g}{unit}", f"{value:.2f}{unit}", value >= bar)


def _at_most(name: str, value: float, bar: float, unit: str) -> Bar:
    return Bar(name, f"≤ {bar:g}{unit}", f"{value:.2f}{unit}", value <= bar)


def _less_than(name: str, value: float, bar: float, unit: str) -> Bar:
    return Bar(name, f"< {bar:g}{unit}", f"{value:.2f}{unit}", value < bar)


def _against_others(measured: Measurements) -> Iterator[Bar]:
    large = measured.find(What.FIRST, LARGE)
    ratio = measured.ratio_to_direct_copy(large) if large else None
    if ratio is not None:
        yield _at_least(f"import of {LARGE:,} rows, of the direct copy", ratio, 0.20, "")
    for dlt in measured.of(What.DLT):
        if first := measured.find(What.FIRST, dlt.rows):
            times = dlt.seconds / first.seconds
            yield _at_least(f"import of {dlt.rows:,} rows, of dlt's merge", times, 15, "x")
    adr, first = measured.find(What.ADR, SMALL), measured.find(What.FIRST, SMALL)
    if adr and first:
        times = adr.seconds / first.seconds
        yield _at_least(f"import of {SMALL:,} rows, of the ADR's algorithm", times, 8, "x")


def _over_sizes(measured: Measurements) -> Iterator[Bar]:
    small, large = measured.find(What.FIRST, SMALL), measured.find(What.FIRST, LARGE)
    if small and large:
        times = large.seconds / small.seconds
        yield _at_most(f"wall time of {LARGE:,} rows, of {SMALL:,} rows'", times, 11, "x")


def _when_repeated(measured: Measurements) -> Iterator[Bar]:
    for size in (SMALL, LARGE):
        first, fresh = measured.find(What.FIRST, size), measured.find(What.FRESH, size)
        if first and fresh:
            times = first.seconds / fresh.seconds
            yield _at_least(f"{size:,} duplicates, of the first import's speed", times, 1, "x")
    if again := measured.find(What.NOTHING_NEW, LARGE):
        yield _less_than(f"nothing new in {LARGE:,} rows", again.seconds, 10, " s")
    if appended := measured.find(What.APPENDED, LARGE):
        yield _less_than(f"500 new rows after {LARGE:,}", appended.seconds, 15, " s")


def _dagster(measured: Measurements) -> Iterator[Bar]:
    share = measured.dagster_share(LARGE)
    if share is not None:
        yield _at_most(f"Dagster's share of {LARGE:,} rows", 100 * share, 25, " %")


def _memory(measured: Measurements) -> Iterator[Bar]:
    peaks = {
        (use.peak_mib, name)
        for what in OURS
        for run in measured.of(what)
        for name, use in run.processes.items()
    }
    if peaks:
        peak, name = max(peaks)
        yield _at_most(f"largest process of any import ({name})", peak, 600, " MiB")
    small, large = measured.find(What.FIRST, SMALL), measured.find(What.FIRST, LARGE)
    if small and large:
        for name in sorted(small.processes.keys() & large.processes.keys()):
            times = large.processes[name].peak_mib / small.processes[name].peak_mib
            words = f"peak of {name} at {LARGE:,} rows, of that at {SMALL:,}"
            yield _at_most(words, times, 1.2, "x")
