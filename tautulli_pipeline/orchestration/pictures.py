"""Plays by month, as a picture or in letters, for the metadata of a run."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

# Month as YYYY-MM, media type, plays.
Months = Sequence[tuple[str, str, int]]

NOTHING: Final = "No plays."

_WIDTH_INCHES, _HEIGHT_INCHES, _DOTS_PER_INCH = 8.4, 3.2, 110
# Beyond so many months a bar stands for a year.
_MOST_MONTHS: Final = 120
_MOST_LINES: Final = 36
_LONGEST_BAR: Final = 30
_MOST_KINDS: Final = 6
_COLOURS: Final = ("#4f43dd", "#f5a623", "#2bb3a3", "#d6336c", "#7a8699", "#9c6ade")
_INK, _FAINT = "#30343b", "#e3e6ea"


def picture_of_plays(months: Months, title: str) -> str:
    """Stacked bars by media type as Markdown with the PNG in it.

    Slow to begin with: what draws it takes half a second to load.
    """
    if not months:
        return NOTHING
    import pandas as pd

    frame = pd.DataFrame(months, columns=["month", "media type", "plays"])
    table = frame.pivot_table(
        index="month", columns="media type", values="plays", aggfunc="sum", fill_value=0
    )
    periods = pd.PeriodIndex(table.index, freq="M")
    table.index = periods
    # Months without plays are part of the picture.
    table = table.reindex(pd.period_range(periods.min(), periods.max(), freq="M"), fill_value=0)
    if len(table) > _MOST_MONTHS:
        table = table.groupby(table.index.year).sum()
    return f"![{title}](data:image/png;base64,{_drawn(_most_frequent_first(table), title)})"


def plays_in_letters(months: Months) -> str:
    """The same as a Markdown table with bars of block characters, at no cost."""
    counted: Counter[str] = Counter()
    for month, _, plays in months:
        counted[month] += plays
    unit = "month"
    if len(counted) > _MOST_LINES:
        unit, by_year = "year", Counter[str]()
        for month, plays in counted.items():
            by_year[month.rpartition("-")[0]] += plays
        counted = by_year
    if not counted:
        return NOTHING
    highest = max(counted.values())
    lines = [
        f"| {name} | {plays:,} | {'█' * max(1, round(_LONGEST_BAR * plays / highest))} |"
        for name, plays in sorted(counted.items())
    ]
    return "\n".join([f"| {unit} | plays | |", "|:--|--:|:--|", *lines])


def _most_frequent_first(table: DataFrame) -> DataFrame:
    ordered = table[table.sum().sort_values(ascending=False).index]
    if len(ordered.columns) <= _MOST_KINDS:
        return ordered
    kept = ordered.iloc[:, : _MOST_KINDS - 1]
    return kept.assign(others=ordered.iloc[:, _MOST_KINDS - 1 :].sum(axis=1))


def _drawn(table: DataFrame, title: str) -> str:
    # Without pyplot, which keeps every figure and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    below = [0] * len(table)
    places = range(len(table))
    for kind, colour in zip(table.columns, _COLOURS, strict=False):
        heights = table[kind].tolist()
        axes.bar(places, heights, bottom=below, width=0.82, color=colour, label=str(kind))
        below = [low + height for low, height in zip(below, heights, strict=True)]
    _style(axes, [str(label) for label in table.index], title)
    file = BytesIO()
    figure.savefig(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


def _style(axes: Axes, labels: Sequence[str], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    every = max(1, -(-len(labels) // 12))
    axes.set_xticks(range(0, len(labels), every), labels[::every])
    # A single bar would fill the whole width.
    axes.set_xlim(-0.7, max(len(labels), 6) - 0.3)
    axes.yaxis.set_major_formatter(lambda plays, _position: f"{plays:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK, pad=10)
    axes.tick_params(colors=_INK, labelsize=8, length=0)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=_MOST_KINDS, frameon=False, fontsize=8
    )
