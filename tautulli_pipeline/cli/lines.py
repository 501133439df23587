"""Messages: wrapped on a terminal, one line each elsewhere."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

import click
from rich.console import Console

from tautulli_pipeline.printable import without_controls

_PROGRAM: Final = "tautulli-pipeline"


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


def print_commands(commands: Mapping[str, str]) -> None:
    """Print commands by what they are for.

    They are never broken, so that they can be copied. If one is too wide for the terminal, each
    of them has a line of its own.
    """
    width = max(map(len, commands))
    lines = [f"{purpose:<{width}}  {command}" for purpose, command in commands.items()]
    console = Console(highlight=False)
    if max(map(len, lines)) > console.width:
        lines = [f"{purpose}:\n  {command}" for purpose, command in commands.items()]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, emoji=False)


def program() -> str:
    """Return what to type to start this program: its name, or its path if a shell needs it."""
    started = Path(sys.argv[0])
    if started.name != _PROGRAM:
        return _PROGRAM
    found = shutil.which(_PROGRAM)
    if found and started.exists() and started.samefile(found):
        return _PROGRAM
    return shlex.quote(sys.argv[0])
