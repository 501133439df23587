"""A few charts of the analytics, for people who would rather look than read.

matplotlib and pandas take a second to load, so only runs of Dagster import this module. The
background is white, so that a chart can be read on a light and on a dark page.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Final

import duckdb
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_SIZE_INCHES: Final = (8.4, 3.4)
_DOTS_PER_INCH: Final = 110
_INK, _FAINT = "#30343b", "#e3e6ea"
# Told apart with any kind of colour blindness.
_COLOURS: Final = {
    "TV": "#4477aa",
    "Movies": "#ee6677",
    "Music": "#228833",
    "Live TV": "#ccbb44",
    "Direct Play": "#4477aa",
    "Direct Stream": "#66ccee",
    "Transcode": "#ee6677",
    "All": _INK,
    "Other": "#bbbbbb",
}
_WEEKDAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_HOURS: Final = 24
# More months are shown as years.
_MOST_MONTHS: Final = 120
_LONGEST_LABEL: Final = 34


def draw_charts(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return by table the Markdown of its chart, an image; tables without rows have none.

    Args:
        connection: the open analytics.
    """
    found = {}
    for table, (sql, draw) in _CHARTS.items():
        rows = connection.execute(sql).df()
        if len(rows):
            found[table] = f"![{table}](data:image/png;base64,{_drawn(rows, draw)})"
    return found


def _drawn(rows: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], None]) -> str:
    # Without pyplot, which keeps every figure and looks for a screen.
    figure = Figure(
        figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained", facecolor="white"
    )
    axes = figure.add_subplot()
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_FAINT)
    draw(axes, rows)
    file = BytesIO()
    with warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


def _stacked_months(title: str, unit: str) -> Callable[[Axes, pd.DataFrame], None]:
    """Return a function that draws stacked bars by month, or by year if there are many."""

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        table = rows.pivot_table(index="month", columns="kind", values="number", aggfunc="sum")
        table = table.fillna(0).asfreq("MS", fill_value=0)  # months without plays count too
        labels = table.index.strftime("%Y-%m")
        if len(table) > _MOST_MONTHS:
            table = table.groupby(table.index.year).sum()
            labels = table.index.astype(str)
        below = pd.Series(0.0, index=table.index)
        for kind in (name for name in _COLOURS if name in table):
            heights = table[kind]
            places = range(len(table))
            axes.bar(places, heights, bottom=below, width=0.85, color=_COLOURS[kind], label=kind)
            below += heights
        every = -(-len(labels) // 10)
        axes.set_xticks(range(0, len(labels), every), list(labels[::every]))
        axes.set_xlim(-0.7, max(len(labels), 6) - 0.3)  # a single bar would fill the width
        _finish(axes, title, unit)
        axes.legend(frameon=False, fontsize=9, ncols=4, loc="upper left", labelcolor=_INK)
        axes.set_ylim(0, max(float(below.max()) * 1.18, 1.0))

    return draw


def _peaks(axes: Axes, rows: pd.DataFrame) -> None:
    for kind in (name for name in _COLOURS if name in set(rows["kind"])):
        one = rows[rows["kind"] == kind].set_index("month")["number"].asfreq("MS", fill_value=0)
        width = 2.4 if kind == "All" else 1.4
        axes.plot(one.index, one, color=_COLOURS[kind], label=kind, linewidth=width, marker=".")
    _finish(axes, "Most streams at the same time, by month", "streams")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="upper left", labelcolor=_INK)
    axes.set_ylim(0, float(rows["number"].max()) * 1.25 + 0.5)


def _heatmap(axes: Axes, rows: pd.DataFrame) -> None:
    table = rows.pivot_table(index="weekday", columns="hour", values="number", aggfunc="sum")
    table = table.reindex(index=range(len(_WEEKDAYS)), columns=range(_HOURS)).fillna(0)
    image = axes.imshow(table, aspect="auto", cmap="YlGnBu", vmin=0)
    axes.set_yticks(range(len(_WEEKDAYS)), _WEEKDAYS)
    axes.set_xticks(range(0, _HOURS, 3), [f"{hour:02d}:00" for hour in range(0, _HOURS, 3)])
    _title(axes, "When people watch")
    axes.set_xlabel("local hour of the start", color=_INK, fontsize=9)
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, ax=axes, label="plays")
    bar.ax.tick_params(colors=_INK, labelsize=9, length=0)


def _bars(title: str) -> Callable[[Axes, pd.DataFrame], None]:
    """Return a function that draws one horizontal bar for each row, the first on top."""

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        labels = [_short(name) for name in rows["name"]]
        places = range(len(labels))
        drawn = axes.barh(places, rows["number"], color=_COLOURS["TV"], height=0.7)
        axes.bar_label(drawn, padding=3, color=_INK, fontsize=9)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_xlabel("watches", color=_INK, fontsize=9)
        _title(axes, title)

    return draw


def _short(name: object) -> str:
    # `$` would begin a formula.
    text = "unknown" if name is None else str(name).replace("$", r"\$")
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(lambda number, _position: f"{number:,.0f}")
    axes.set_ylabel(unit, color=_INK, fontsize=9)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    _title(axes, title)


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK, pad=10)


_Chart = tuple[str, Callable[[Axes, pd.DataFrame], None]]
_CHARTS: Final[dict[str, _Chart]] = {
    "plays_by_month": (
        "SELECT month::TIMESTAMP AS month, media AS kind, plays AS number FROM plays_by_month",
        _stacked_months("Plays by month", "plays"),
    ),
    "plays": (
        "SELECT month::TIMESTAMP AS month, media AS kind, seconds / 3600 AS number "
        "FROM plays_by_month",
        _stacked_months("Hours by month", "hours"),
    ),
    "streams_by_day": (
        "SELECT date_trunc('month', day)::TIMESTAMP AS month, stream_type AS kind, "
        "max(peak_concurrent) AS number FROM streams_by_day GROUP BY ALL ORDER BY month",
        _peaks,
    ),
    "heatmap": ("SELECT weekday, hour, plays AS number FROM heatmap", _heatmap),
    "top_movies": (
        "SELECT title || coalesce(' (' || year || ')', '') AS name, watches AS number "
        "FROM top_movies ORDER BY watches DESC, title LIMIT 10",
        _bars("Most watched films"),
    ),
    "top_shows": (
        "SELECT title AS name, watches AS number FROM top_shows "
        "ORDER BY watches DESC, title LIMIT 10",
        _bars("Most watched shows"),
    ),
}
