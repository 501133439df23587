"""Messages: wrapped on a terminal, one line each elsewhere."""

from __future__ import annotations

import re
import sys
from typing import Final, TextIO

import click
from rich.cells import cell_len
from rich.console import Console

# Quoted text and paths stay whole, spaces included. A path continues to the next word that
# contains a slash or a file extension, unless punctuation ends it first.
_IN_PATH: Final = r"[^ /:;,'\"`()\[\]=]+"
_UNBREAKABLE: Final = re.compile(
    rf"""
    (?:\w+=)? [(\[]? (?: '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" | `[^`]*` ) [^ ]*
    | [(\[]? /[^ ]* (?:
        (?<![:;,]) (?:[ ]+{_IN_PATH}){{0,4}}? [ ]+{_IN_PATH} (?: / | \.(?:db|duckdb|zip)\b ) [^ ]*
      )*
    | [^ ]+
    """,
    re.VERBOSE,
)


def wrap_for(stream: TextIO, text: str, indent: str = "") -> str:
    """Return `text` as it should appear on `stream`.

    On a terminal, break it into lines between words. Words, quoted text and paths are never
    broken, even if they are wider than the terminal. Elsewhere, return a single line.

    Args:
        stream: Where the text will be written.
        text: The message.
        indent: Put in front of each line.
    """
    line = indent + text
    if not stream.isatty():
        return line
    width = Console(file=stream).width
    if cell_len(line) <= width:
        return line
    first, *others = _UNBREAKABLE.findall(text)
    lines = [indent + first]
    for part in others:
        extended = f"{lines[-1]} {part}"
        if cell_len(extended) <= width:
            lines[-1] = extended
        else:
            lines.append(indent + part)
    return "\n".join(lines)


def print_line(text: str) -> None:
    """Print a message on standard output, without interpreting markup in it."""
    wrapped = wrap_for(sys.stdout, text)
    Console(highlight=False).print(wrapped, soft_wrap=True, markup=False, emoji=False)


def print_notice(text: str) -> None:
    """Print a message on standard error."""
    click.echo(wrap_for(sys.stderr, text), err=True)
