"""Numbers, dates and names for readers."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Final

from markupsafe import Markup

from tautulli_pipeline.printable import without_controls

_LONGEST_NAME: Final = 120
_MARKS: Final = 4  # on one letter; more would cover other lines
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# From here on, minutes or hours do not matter.
_MANY_HOURS, _MANY_DAYS = 10 * _HOUR, 2 * _DAY


def named(name: str | None) -> Markup:
    """Return a title or a name for HTML: escaped, of limited length, in its own direction."""
    text = _MARKED.sub(_with_few_marks, without_controls(name or "unknown").strip()) or "unknown"
    if len(text) > _LONGEST_NAME:
        text = f"{text[: _LONGEST_NAME - 1]}…"
    return Markup("<bdi>{}</bdi>").format(text)


_MARKED: Final = re.compile(r"[^\x00-\u02ff]{5,}")


def _with_few_marks(found: re.Match[str]) -> str:
    """Return text without more than a few combining marks in a row."""
    kept, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        if marks <= _MARKS:
            kept.append(character)
    return "".join(kept)


def count(number: int, what: str) -> str:
    """Return a number with its noun, such as `1,234 plays`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: int) -> str:
    """Return a span of time, such as `3 h 20 min`."""
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    hours, minutes = divmod(seconds // _MINUTE, 60)
    if seconds >= _MANY_HOURS or not minutes:
        return f"{round(seconds / _HOUR):,} h"
    return f"{hours} h {minutes} min"


def in_days(seconds: int) -> str:
    """Return a long span of time in days, such as `12.5 days`; '' if it is short."""
    return f"{seconds / _DAY:,.1f} days" if seconds >= _MANY_DAYS else ""


def percent(part: int, whole: int) -> str:
    """Return a share; `under 1 %` and `over 99 %` keep it from looking like nothing or all."""
    share = 100 * part / whole
    if 0 < share < 1:
        return "under 1 %"
    return "over 99 %" if 99 < share < 100 else f"{share:.0f} %"  # noqa: PLR2004 - one percent


def date_of(day: date) -> str:
    """Return a date that is the same for readers of any country, such as `14 May 2024`."""
    return f"{day.day} {day:%b %Y}"


def span_of(first: date, last: date) -> str:
    """Return `on` a day, or `from` one `to` another."""
    return f"on {date_of(first)}" if first == last else f"from {date_of(first)} to {date_of(last)}"
