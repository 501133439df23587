"""Plays by month as a chart in block characters, for the metadata of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

# Month as YYYY-MM, media type, plays.
Months = Sequence[tuple[str, str, int]]

NOTHING: Final = "No plays."

# With more months than this, a line stands for a year.
_MOST_LINES: Final = 36
_LONGEST_BAR: Final = 30


def chart_of_plays(months: Months) -> str:
    """A Markdown table with one bar for each month, or for each year of a long history."""
    by_month: Counter[str] = Counter()
    by_year: Counter[str] = Counter()
    for month, _, plays in months:
        by_month[month] += plays
        by_year[month.rpartition("-")[0]] += plays
    if not by_month:
        return NOTHING
    unit, counted = ("month", by_month) if len(by_month) <= _MOST_LINES else ("year", by_year)
    highest = max(counted.values())
    lines = [
        f"| {name} | {plays:,} | {'█' * max(1, round(_LONGEST_BAR * plays / highest))} |"
        for name, plays in sorted(counted.items())
    ]
    return "\n".join([f"| {unit} | plays | |", "|:--|--:|:--|", *lines])
