"""The `query` and `export` commands."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.reporting import print_json
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.printable import json_for, lines_without_controls, without_controls
from tautulli_pipeline.settings import Settings

if TYPE_CHECKING:
    from tautulli_pipeline.reporting.exporting import Exported
    from tautulli_pipeline.reporting.querying import Answer

_ROWS_SHOWN: Final = 1000
_RECORDS_SHOWN: Final = 100
_CHARACTERS_SHOWN: Final = 1000
# Narrower columns cannot be read: each row is shown as a list of its fields then.
_NARROWEST: Final = 9
_JSON: Final = orjson.OPT_NON_STR_KEYS
_IN_MEMORY_BYTES: Final = 8 * 2**20


def run_query(
    settings: Settings, sql: str, *, on_warehouse: bool, as_csv: bool, as_json: bool
) -> None:
    """Run a query and print its result.

    Raises:
        BrokenPipeError: the reader of standard output has gone away.
        ConfigurationError: the query is wrong, or standard output cannot be written.
    """
    from tautulli_pipeline.reporting.access import (
        current_analytics,
        nothing_imported,
        require_current_warehouse,
    )

    if on_warehouse:
        database = settings.warehouse_path
        if not database.is_file():
            raise nothing_imported(settings.data_dir)
        require_current_warehouse(database)
    else:
        database = current_analytics(settings, print_notice)
    try:
        _print_answer(database, sql, as_csv=as_csv, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the result: {error.strerror}", hint="check that the disk has free space"
        ) from error


def _print_answer(database: Path, sql: str, *, as_csv: bool, as_json: bool) -> None:
    from tautulli_pipeline.reporting.querying import answer, copy_as_csv

    # A terminal would obey codes in names and titles.
    if as_csv and not sys.stdout.isatty() and copy_as_csv(database, sql, sys.stdout.buffer):
        return
    with answer(database, sql) as found:
        if as_json:
            _print_json(found)
        elif as_csv:
            writer = csv.writer(_EscapingForTerminal(), lineterminator="\n")
            writer.writerow(found.columns)
            writer.writerows(map(_in_csv, row) for row in chain.from_iterable(found.batches))
        else:
            _print_table(found)


def run_export(
    settings: Settings, names: Sequence[str], folder: Path | None, form: str, *, as_json: bool
) -> None:
    """Write tables as files, and say where they are."""
    from tautulli_pipeline.reporting.access import (
        current_analytics,
        nothing_imported,
        require_current_warehouse,
    )
    from tautulli_pipeline.reporting.exporting import ANALYTICS_TABLES, export, require_known

    require_known(names)
    chosen = tuple(dict.fromkeys(names)) or ANALYTICS_TABLES
    folder = (folder or settings.layout.exports).absolute()
    written: list[Exported] = []
    tables = [name for name in chosen if name in ANALYTICS_TABLES]
    if tables:
        written += export(current_analytics(settings, print_notice), tables, folder, form)
    raw = [name for name in chosen if name not in ANALYTICS_TABLES]
    if raw:
        if not settings.warehouse_path.is_file():
            raise nothing_imported(settings.data_dir)
        require_current_warehouse(settings.warehouse_path)
        written += export(settings.warehouse_path, raw, folder, form)
    if as_json:
        files = [{"table": one.table, "file": str(one.file), "rows": one.rows} for one in written]
        print_json({"folder": str(folder), "format": form, "files": files})
    else:
        rows = sum(one.rows for one in written)
        print_line(f"wrote {_count(len(written), 'table')} with {_count(rows, 'row')} to {folder}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print_json(found: Answer) -> None:
    """Print one JSON object; it is complete before its first byte is printed."""
    with SpooledTemporaryFile(_IN_MEMORY_BYTES, "w+", encoding="utf-8") as file:
        columns = orjson.dumps(found.columns).decode()
        file.write(f'{{"columns": {columns}, "rows": [')
        separator = "\n"
        for row in chain.from_iterable(found.batches):
            fields = dict(zip(found.columns, row, strict=True))
            file.write(separator + json_for(sys.stdout, _to_json(fields)))
            separator = ",\n"
        file.write("\n]}\n")
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout)


def _to_json(value: Any) -> str:  # noqa: ANN401 - any value of DuckDB
    try:
        return orjson.dumps(value, _in_json, _JSON).decode()
    except TypeError:  # an integer of more than 64 bits, or a time of day with a zone
        return json.dumps(value, default=_in_json, ensure_ascii=False, separators=(",", ":"))


def _in_json(value: Any) -> Any:  # noqa: ANN401 - any value of DuckDB
    """Return what JSON has no type for as a number or as text."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


class _EscapingForTerminal:
    """Standard output, without codes that a terminal obeys if it is one."""

    def write(self, text: str) -> int:
        return sys.stdout.write(lines_without_controls(text) if sys.stdout.isatty() else text)


def _in_csv(value: Any) -> Any:  # noqa: ANN401 - any value of DuckDB
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict | tuple):
        return _to_json(value)
    return value.hex() if isinstance(value, bytes) else value


def _print_table(found: Answer) -> None:
    """Print a table as wide as the terminal, or each row by itself if it has many columns."""
    console = Console(highlight=False)
    is_wide = len(found.columns) > max(1, console.width // _NARROWEST)
    most = _RECORDS_SHOWN if is_wide else _ROWS_SHOWN
    rows = list(_first(found.batches, most + 1))
    if is_wide:
        for row in rows[:most]:
            table = Table(box=None, show_header=False, pad_edge=False)
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            for name, value in zip(found.columns, row, strict=True):
                table.add_row(_text(name), _text(value))
            console.print(table)
            console.print()
    else:
        table = Table(box=None, pad_edge=False)
        for n, name in enumerate(found.columns):
            right = all(isinstance(row[n], int | float | Decimal | None) for row in rows)
            table.add_column(_text(name), overflow="fold", justify="right" if right else "left")
        for row in rows[:most]:
            table.add_row(*map(_text, row))
        console.print(table)
    if len(rows) > most:
        print_notice(f"only the first {most:,} rows are shown; --csv and --json print all")
    elif not rows:
        print_notice("no rows")


def _first(batches: Iterator[list[tuple[Any, ...]]], most: int) -> Iterator[tuple[Any, ...]]:
    for _number, row in zip(range(most), chain.from_iterable(batches), strict=False):
        yield row


def _text(value: Any) -> Text:  # noqa: ANN401 - any value of DuckDB
    """Return a cell; NULL cannot be taken for text because it is dim."""
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, bool):
        return Text("true" if value else "false")
    if isinstance(value, float):
        return Text(f"{value:.10g}")
    if isinstance(value, list | dict | tuple):
        value = _to_json(value)
    # EXPLAIN draws its plan in lines.
    text = "\n".join(map(without_controls, str(value).split("\n")))
    cut = len(text) > _CHARACTERS_SHOWN and not text.startswith("┌")
    return Text(f"{text[:_CHARACTERS_SHOWN]}…" if cut else text)
