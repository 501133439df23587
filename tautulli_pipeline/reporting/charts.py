"""Charts as SVG that takes its colours and its font from the page around it.

matplotlib draws them. They hold numbers, dates and our own words only: names and titles stand in
the page itself, where the browser wraps them and escapes are simple.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from io import StringIO
from typing import Any, Final

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tautulli_pipeline.reporting.figures import Point

# Charts are this wide on a phone; on wider screens, they grow by half at most.
_WIDTH_INCHES: Final = 4.6
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # the same figures give the same bytes
    "font.size": 10.5,
}
_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))
# Colours that stand for custom properties of the page.
_INK, _FAINT = "#010101", "#020202"
_PROPERTIES: Final = {
    "TV": "#030301",
    "Movies": "#030302",
    "Music": "#030303",
    "Live TV": "#030304",
    "Other": "#030305",
    "All": "#030306",
}
_NAMES: Final = {
    _INK: "ink-2",
    _FAINT: "line",
    **{colour: kind.lower().replace(" ", "-") for kind, colour in _PROPERTIES.items()},
}
_HEAT: Final = LinearSegmentedColormap.from_list(
    "heat", [(*mpl.colors.to_rgb(_PROPERTIES["All"]), alpha) for alpha in (0.04, 1.0)]
)
KINDS: Final = tuple(_PROPERTIES)
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS: Final = 24
_MOST_TICKS: Final = 7
_UNITS: Final = {"day": 62, "week": 430, "month": 3660}
_WEEK: Final = 7
_FEW: Final = 3


def unit_for(first: date, last: date) -> str:
    """Return the unit in which a span of time has a readable number of bars."""
    days = (last - first).days
    return next((unit for unit, most in _UNITS.items() if days <= most), "year")


def places_of(points: Sequence[Point], unit: str) -> list[date]:
    """Return the start of each day, week, month or year from the first to the last point."""
    last, places = max(point.day for point in points), [min(point.day for point in points)]
    while places[-1] < last:
        places.append(_next(places[-1], unit))
    return places


def draw_over_time(points: Sequence[Point], unit: str, label: str, words: str) -> Markup:
    """Draw a bar for each unit of time, stacked by kind.

    Args:
        points: the values; their days are starts of the unit.
        unit: `day`, `week`, `month` or `year`.
        label: the unit of the values.
        words: what a reader who cannot see it hears.
    """
    places = places_of(points, unit)
    index = {place: number for number, place in enumerate(places)}
    with mpl.rc_context(_STYLE):
        figure, axes = _new(2.5)
        below = [0.0] * len(places)
        for kind in KINDS:
            heights = [0.0] * len(places)
            for point in points:
                if point.kind == kind:
                    heights[index[point.day]] += point.value
            if any(heights):
                bars = axes.bar(
                    range(len(places)), heights, bottom=below, width=0.84, color=_PROPERTIES[kind]
                )
                _unclip(bars)
                below = [one + other for one, other in zip(below, heights, strict=True)]
        _set_time_ticks(axes, places, unit)
        _set_value_ticks(axes, max(below), all(value == round(value) for value in below))
        axes.set_ylabel(label, color=_INK)
        return _svg(figure, words)


def draw_heatmap(cells: Sequence[tuple[int, int, int]], words: str) -> Markup:
    """Draw weekdays (0 is Sunday) by hours; the darker, the more plays."""
    table = [[0] * _HOURS for _day in _WEEKDAYS]
    for weekday, hour, plays in cells:
        table[(weekday - 1) % _WEEK][hour] = plays
    with mpl.rc_context(_STYLE):
        figure, axes = _new(2.4)
        axes.pcolormesh(table, cmap=_HEAT, vmin=0, edgecolors="none").set_clip_on(False)
        axes.invert_yaxis()
        axes.set_yticks([day + 0.5 for day in range(_WEEK)], _WEEKDAYS)
        axes.set_xticks(range(0, _HOURS + 1, 6), [f"{hour:02d}:00" for hour in range(0, 25, 6)])
        axes.spines["bottom"].set_visible(False)
        return _svg(figure, words)


def _new(height: float) -> tuple[Figure, Axes]:
    # Without pyplot, which keeps every figure and looks for a screen.
    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained", frameon=False)
    axes = figure.add_subplot(frameon=True)
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    axes.tick_params(axis="x", pad=6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_FAINT)
    return figure, axes


def _unclip(bars: BarContainer) -> None:
    """Draw bars without a clip path, whose name would have to be unique in the page."""
    for bar in bars.patches:
        bar.set_clip_on(False)


def _set_value_ticks(axes: Axes, highest: float, are_whole: bool) -> None:
    axes.set_ylim(0, highest * 1.04)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=are_whole or highest > _FEW))
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,.4g}")
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)


def _set_time_ticks(axes: Axes, places: Sequence[date], unit: str) -> None:
    """Label years, months or days, whichever are few enough."""
    axes.set_xlim(-0.6, max(len(places), 8) - 0.4)  # a few bars would be as wide as the chart
    labels = _labels(places, unit)
    every = -(-len(labels) // _MOST_TICKS)
    shown = dict(list(labels.items())[::every])
    axes.set_xticks(list(shown), list(shown.values()))


def _labels(places: Sequence[date], unit: str) -> dict[int, str]:
    """Return labels by the number of the bar below which they stand."""
    if unit == "day":
        return {n: f"{place.day} {place:%b}" for n, place in enumerate(places)}
    if unit == "year":
        return {n: f"{place.year}" for n, place in enumerate(places)}
    # Bars in which a month or a year begins; the first one may be the end of a month.
    years = [n for n, place in enumerate(places) if place.month == 1 and place.day <= _WEEK]
    if len(years) > _FEW:
        return {n: f"{places[n].year}" for n in years}
    months = [n for n, place in enumerate(places) if place.day <= _WEEK]
    return {
        n: f"{places[n]:%b}" + (f"\n{places[n].year}" if n in (months[0], *years) else "")
        for n in months
    }


def _next(place: date, unit: str) -> date:
    if unit in {"day", "week"}:
        return place + timedelta(days=1 if unit == "day" else _WEEK)
    if unit == "year" or place.month == 12:  # noqa: PLR2004 - December
        return date(place.year + 1, 1, 1)
    return place.replace(month=place.month + 1)


_PROLOGUE: Final = re.compile(r"^.*?<svg [^>]*viewBox=\"([^\"]*)\"[^>]*>.*?</defs>", re.DOTALL)
_FONT: Final = re.compile(r"font: ([\d.]+)px [^;\"]*|font-family: [^;\"]*;? ?")
_ID: Final = re.compile(r' id="[a-z]+[a-z0-9.]*_\d+"')
_COLOUR: Final = re.compile(r"#0[0-3]0[0-3]0[0-9a-f]\b")


def _svg(figure: Figure, words: str) -> Markup:
    """Return the figure with colours, font and size of the page."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata=_METADATA)
    drawn = _PROLOGUE.sub("", file.getvalue())
    size = _PROLOGUE.match(file.getvalue())
    assert size is not None
    drawn = _FONT.sub(lambda found: f"font-size: {found[1]}px" if found[1] else "", drawn)
    drawn = _COLOUR.sub(lambda found: f"var(--{_NAMES[found[0]]})", _ID.sub("", drawn))
    opening = Markup('<svg role="img" aria-label="{}" viewBox="{}">').format(words, size[1])
    return opening + Markup(drawn)  # noqa: S704 - matplotlib escapes its texts, which are our own
