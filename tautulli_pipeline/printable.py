"""Text for people: times in one format, and names and titles without codes for a terminal."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, TextIO

# Control characters, line and paragraph separators, marks that change the direction of text or
# are not shown, and invalid text. Joiners stay: they are parts of emoji and of some scripts.
_UNSAFE: Final = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff"
)
_UNSAFE_CHARACTER: Final = re.compile(f"[{_UNSAFE}]")
_UNSAFE_IN_LINES: Final = re.compile(rf"(?![\n\t])[{_UNSAFE}]")


def time_in_words(moment: datetime) -> str:
    """Return a UTC time for people, such as `2026-01-31 04:00:00 UTC`."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def without_controls(text: str) -> str:
    """Return one line of text with everything escaped that a terminal could obey."""
    return _UNSAFE_CHARACTER.sub(_escaped, text)


def lines_without_controls(text: str) -> str:
    """Return text of several lines with everything escaped that a terminal could obey."""
    return _UNSAFE_IN_LINES.sub(_escaped, text)


def json_for(stream: TextIO, text: str) -> str:
    """Return JSON as it should appear on `stream`; the escapes for a terminal are JSON."""
    if not stream.isatty():
        return text
    return _UNSAFE_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
