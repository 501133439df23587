"""Writes the report of a data directory as one HTML file."""

from __future__ import annotations

import difflib
import re
from datetime import date
from pathlib import Path
from typing import Final

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.reporting.access import nothing_imported
from tautulli_pipeline.reporting.figures import Figures, Scope, open_figures

_NAMES_SHOWN: Final = 5
_UNFIT_FOR_A_FILE: Final = re.compile(r"[\W_]+")
_LONGEST_NAME: Final = 40
_LONGEST_SHOWN: Final = 80


def is_outdated(layout: DataDir) -> bool:
    """Whether there are statistics, and the report is older or missing."""
    if not layout.analytics.is_file():
        return False
    report = layout.report
    return not report.is_file() or report.stat().st_mtime < layout.analytics.stat().st_mtime


def write_report(
    analytics: Path,
    file: Path,
    year: int | None = None,
    user: str | None = None,
    *,
    empty_allowed: bool = False,
) -> int:
    """Write the report, readable by its owner only; an older one is replaced atomically.

    Args:
        analytics: `analytics.duckdb`.
        file: the file to write.
        year: only plays of this year; None for all of them.
        user: only plays of the person who is shown by this name, or logs in with it; None for
            everybody.
        empty_allowed: without any plays, write nothing instead of raising.

    Returns:
        The number of plays that it is about.

    Raises:
        ConfigurationError: there are no such plays, or the file cannot be written.
    """
    # matplotlib and jinja2 take half a second to load.
    from tautulli_pipeline.reporting.page import render

    with open_figures(analytics) as figures:
        if not figures.years(None):
            if empty_allowed:
                return 0
            raise nothing_imported(analytics.parent)
        scope = _scope(figures, year, user)
        page = render(figures, scope, date.today())
        plays = figures.totals(scope).plays
    try:
        write_atomically(file, page.encode())
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the report {file}: {error.strerror}",
            hint="name a file in an existing folder that you can write to, with --out",
        ) from error
    return plays


def _scope(figures: Figures, year: int | None, user: str | None) -> Scope:
    """Return what the report is about, if there are plays of it."""
    person = None if user is None else _person(figures, user)
    years = figures.years(person)
    if year is not None and year not in years:
        who = f" of {_cut(person)}" if person else ""
        raise ConfigurationError(
            f"there are no plays{who} in {year}", hint=f"there are plays in {_spans(years)}"
        )
    return Scope(year, person)


def _person(figures: Figures, name: str) -> str:
    found = figures.people(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(
            f"{_cut(name)!r} is the name of several people",
            hint=f"name one: {', '.join(map(_cut, found))}",
        )
    everybody = figures.all_people()
    similar = difflib.get_close_matches(name, everybody) or everybody[:_NAMES_SHOWN]
    raise ConfigurationError(
        f"there are no plays of {_cut(name)!r}",
        hint=f"there are plays of {', '.join(map(_cut, similar))}"
        + (", ..." if len(similar) < len(everybody) else ""),
    )


def _cut(name: str) -> str:
    return f"{name[: _LONGEST_SHOWN - 1]}…" if len(name) > _LONGEST_SHOWN else name


def _spans(years: list[int]) -> str:
    """Return sorted years as `2016-2018, 2020`."""
    spans: list[list[int]] = []
    for year in years:
        if spans and spans[-1][-1] == year - 1:
            spans[-1][1:] = [year]
        else:
            spans.append([year])
    return ", ".join("-".join(map(str, span)) for span in spans)


def default_file(data_dir: Path, year: int | None = None, user: str | None = None) -> Path:
    """Return where a report is written: one of a year or a person has a file of its own."""
    parts = ["report", *([str(year)] if year is not None else [])]
    if user is not None:
        parts.append(_UNFIT_FOR_A_FILE.sub("-", user.lower())[:_LONGEST_NAME].strip("-"))
    return data_dir / f"{'-'.join(parts)}.html"
