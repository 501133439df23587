"""Messages: wrapped on a terminal, one line each elsewhere."""

from __future__ import annotations

import sys
import textwrap
from typing import TextIO

import click
from rich.console import Console

from tautulli_pipeline.printable import without_controls


def wrap_for(stream: TextIO, text: str, indent: str = "", hanging: str = "") -> str:
    """Return `text` as it should appear on `stream`, with `indent` in front of each line.

    All lines but the first one have `hanging` in front as well.

    Codes that a terminal could obey are escaped.

    On a terminal, break it into lines between words. Words are never broken, even if they are
    wider than the terminal. Elsewhere, return a single line.
    """
    text = without_controls(text)
    if not stream.isatty():
        return indent + text
    return textwrap.fill(
        text,
        Console(file=stream).width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_line(text: str, hanging: str = "") -> None:
    """Print a message on standard output, without interpreting markup in it."""
    wrapped = wrap_for(sys.stdout, text, hanging=hanging)
    Console(highlight=False).print(wrapped, soft_wrap=True, markup=False, emoji=False)


def print_notice(text: str) -> None:
    """Print a message on standard error."""
    click.echo(wrap_for(sys.stderr, text), err=True)
