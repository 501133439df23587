"""What the commands print on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import orjson
from rich.console import Console
from rich.table import Table

from tautulli_pipeline.cli.progress import time_left
from tautulli_pipeline.imports.record import PENDING_SUMMARY, RUNNING, ImportLog, ImportRecord
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.damage import in_words

# The warehouse gives times without a zone.
TIMES_IN_UTC: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def print_json(facts: Mapping[str, Any]) -> None:
    """Exactly one JSON object on standard output; times are UTC."""
    text = orjson.dumps(facts, option=orjson.OPT_INDENT_2 | TIMES_IN_UTC).decode()
    sys.stdout.write(f"{text}\n")


def print_line(words: str) -> None:
    """One line for people; a name in it is shown as it is."""
    Console(highlight=False).print(words, soft_wrap=True, markup=False, emoji=False)


def print_summary(record: ImportRecord, warehouse: Path) -> None:
    """The ledger of an import for people."""
    outcomes = record.outcomes
    rows = {
        "imported": outcomes.imported,
        "duplicates, seen by the stream": outcomes.duplicates_stream,
        "duplicates, seen by the cache": outcomes.duplicates_cache,
        "duplicates, already in the table": outcomes.duplicates_database,
        "rejected (see dead_letters)": outcomes.rejected,
        "unreadable": outcomes.errors,
    }
    unchanged = {"unchanged since the last import": record.unchanged} if record.unchanged else {}
    print_counts(rows, {"plays covered": record.total_records}, unchanged)
    Console(highlight=False).print(_headline(record))
    print_line(f"{warehouse}")


def print_counts(
    parts: Mapping[str, int], total: Mapping[str, int], beside: Mapping[str, int] | None = None
) -> None:
    """Counts by name, their total in bold, and what is not part of it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for rows, style in ((parts, None), (total, "bold"), (beside or {}, None)):
        for name, count in rows.items():
            table.add_row(name, f"{count:,}", style=style)
    Console(highlight=False).print(table)


def report_unreadable(unreadable: Iterable[Mapping[str, Any]], stream: TextIO) -> None:
    """Name what of a damaged file could not be read."""
    stream.writelines(f"could not read {in_words(damage)}\n" for damage in unreadable)


def _headline(record: ImportRecord) -> str:
    summary = record.summary()
    speed = f"{summary['records_per_second']:,.0f} rows/s"
    if record.status in RUNNING:
        return f"{record.status}: {summary['progress']} %, {speed}, {time_left(summary)} left"
    resuming = "; import again to resume it" if record.resumable else ""
    return f"{record.status} after {record.elapsed_seconds:.1f} s, {speed}{resuming}"


def show_status(settings: Settings, *, as_json: bool) -> None:
    """`status`: the record alone; the warehouse is not opened."""
    record = ImportLog(settings.data_dir).current() if settings.data_dir.is_dir() else None
    if as_json:
        print_json(record.summary() if record else PENDING_SUMMARY)
    elif record is None:
        print_line(_nothing_known(settings))
    else:
        print_summary(record, settings.warehouse_path)


def _nothing_known(settings: Settings) -> str:
    if settings.warehouse_path.exists():
        return f"no progress is saved in {settings.data_dir}: the next import covers every play"
    return f"nothing was imported into {settings.data_dir} yet"
