"""Options that many commands take."""

from __future__ import annotations

from collections.abc import Callable

import click

# Whether it was given, `faults` finds out: a command may fail before its options are parsed.
DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--debug` and `--json`."""
    return DEBUG(_JSON(command))
