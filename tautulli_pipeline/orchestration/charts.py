"""Plays by month as a chart in block characters, for the metadata of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

# Month as YYYY-MM, plays; in order.
Months = Sequence[tuple[str, int]]

NOTHING: Final = "No plays."

# With more months than this, a line stands for a year.
_MOST_LINES: Final = 36
_LONGEST_BAR: Final = 30


def chart_of_plays(months: Months) -> str:
    """A Markdown table with one bar for each month, or for each year of a long history."""
    if not months:
        return NOTHING
    unit, counted = "month", Counter(dict(months))
    if len(months) > _MOST_LINES:
        unit, counted = "year", Counter()
        for month, plays in months:
            counted[month.rpartition("-")[0]] += plays
    highest = max(counted.values())
    lines = [
        f"| {name} | {plays:,} | {'█' * max(1, round(_LONGEST_BAR * plays / highest))} |"
        for name, plays in counted.items()
    ]
    return "\n".join([f"| {unit} | plays | |", "|:--|--:|:--|", *lines])
