"""Tables: pages of a list, and the fields of one record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tautulli_pipeline.cli.lines import print_line
from tautulli_pipeline.cli.reporting import TIMES_IN_UTC
from tautulli_pipeline.printable import time_in_words, without_controls

if TYPE_CHECKING:
    from tautulli_pipeline.warehouse.reading import Listing, Page

# Laying out a megabyte of text takes seconds, and nobody reads it.
_CHARACTERS_SHOWN: Final = 2000
_FIELDS_SHOWN: Final = 300
_CHARACTERS_LISTED: Final = 100


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        value: Returns the value for a row; a tuple is shown as one line for each member.
        at_most: The maximum width in characters.
        flexible: Whether it takes the remaining width and wraps at words.
    """

    value: Callable[[Mapping[str, Any]], Any]
    at_most: int | None = None
    flexible: bool = False


def print_page(
    listing: Listing, page: Page, columns: Mapping[str, Column], name: str, hint: str = ""
) -> None:
    """Print the rows, their position in the whole list, how to see more, and a hint."""
    if not listing.rows:
        beyond = f" at offset {page.offset:,}; the total is {listing.total:,}"
        print_line(f"no {name}{beyond if listing.total else ''}")
        return
    table = Table(box=None, pad_edge=False, expand=True)
    for title, column in columns.items():
        table.add_column(
            title,
            no_wrap=not column.flexible,
            overflow="fold" if column.flexible else "ellipsis",
            max_width=column.at_most,
            ratio=1 if column.flexible else None,
        )
    for row in listing.rows:
        table.add_row(*(_lines(column.value(row)) for column in columns.values()))
    Console(highlight=False).print(table)
    last = page.offset + len(listing.rows)
    more = f"; continue with --offset {last}" if last < listing.total else ""
    print_line(f"{page.offset + 1:,} to {last:,} of {listing.total:,} {name}{more}")
    if hint:
        print_line(hint)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one line per field, without empty fields."""
    shown = [(name, value) for name, value in fields.items() if value is not None and value != ""]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in shown[:_FIELDS_SHOWN]:
        table.add_row(_cell(name), _cell(value))
    Console(highlight=False).print(table)
    if len(shown) > _FIELDS_SHOWN:
        print_line(f"and {len(shown) - _FIELDS_SHOWN:,} more fields; --json shows all")


def print_rows(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table with long cells folded onto the next line."""
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    Console(highlight=False).print(table)


def _lines(value: Any) -> Text:  # noqa: ANN401 - any value of a table
    """Return a cell of a list, with long lines cut."""
    lines = [_cell(line) for line in (value if isinstance(value, tuple) else (value,))]
    for line in lines:
        line.truncate(_CHARACTERS_LISTED, overflow="ellipsis")
    return Text("\n").join(lines)


def _cell(value: Any) -> Text:  # noqa: ANN401 - any value of a table, or JSON
    if isinstance(value, datetime):
        value = time_in_words(value)
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, dict | list):
        value = orjson.dumps(value, option=TIMES_IN_UTC).decode()
    text = "-" if value is None else str(value)
    shown = without_controls(text[:_CHARACTERS_SHOWN])
    if len(text) > _CHARACTERS_SHOWN:
        shown += f"... ({len(text):,} characters; --json shows all)"
    return Text(shown)
