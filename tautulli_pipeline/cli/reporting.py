"""Results on standard output, as text or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tautulli_pipeline.cli.lines import print_notice
from tautulli_pipeline.printable import json_for, without_controls
from tautulli_pipeline.source.damage import in_words

# Times in the warehouse have no time zone.
TIMES_IN_UTC: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def print_json(facts: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; times are UTC."""
    text = orjson.dumps(facts, option=orjson.OPT_INDENT_2 | TIMES_IN_UTC).decode()
    sys.stdout.write(f"{json_for(sys.stdout, text)}\n")


def print_counts(
    parts: Mapping[str, int], total: Mapping[str, int], other: Mapping[str, int] | None = None
) -> None:
    """Print counts by name, their total in bold, and other counts below it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for rows, style in ((parts, None), (total, "bold"), (other or {}, None)):
        for name, count in rows.items():
            table.add_row(Text(without_controls(name)), f"{count:,}", style=style)
    Console(highlight=False).print(table)


def report_unreadable(unreadable: Iterable[Mapping[str, Any]]) -> None:
    """List the parts of a damaged file that could not be read, on standard error."""
    for damage in unreadable:
        print_notice(f"could not read {in_words(damage)}")
