"""Results on standard output, as text or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.progress import time_left
from tautulli_pipeline.imports.record import PENDING_SUMMARY, RUNNING, ImportLog, ImportRecord
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.damage import in_words

# Times in the warehouse have no time zone.
TIMES_IN_UTC: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def print_json(facts: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; times are UTC."""
    text = orjson.dumps(facts, option=orjson.OPT_INDENT_2 | TIMES_IN_UTC).decode()
    sys.stdout.write(f"{text}\n")


def print_summary(record: ImportRecord, warehouse: Path) -> None:
    """Print the outcome counts of an import."""
    outcomes = record.outcomes
    rows = {
        "imported": outcomes.imported,
        "duplicates found by the stream": outcomes.duplicates_stream,
        "duplicates found by the cache": outcomes.duplicates_cache,
        "duplicates already in the table": outcomes.duplicates_database,
        "rejected (see dead_letters)": outcomes.rejected,
        "unreadable": outcomes.errors,
    }
    unchanged = {"unchanged since the last import": record.unchanged} if record.unchanged else {}
    print_counts(rows, {"plays in this import": record.total_records}, unchanged)
    print_line(_headline(record))
    print_line(f"{warehouse}")


def print_counts(
    parts: Mapping[str, int], total: Mapping[str, int], other: Mapping[str, int] | None = None
) -> None:
    """Print counts by name, their total in bold, and other counts below it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for rows, style in ((parts, None), (total, "bold"), (other or {}, None)):
        for name, count in rows.items():
            table.add_row(name, f"{count:,}", style=style)
    Console(highlight=False).print(table)


def report_unreadable(unreadable: Iterable[Mapping[str, Any]]) -> None:
    """List the parts of a damaged file that could not be read, on standard error."""
    for damage in unreadable:
        print_notice(f"could not read {in_words(damage)}")


def _headline(record: ImportRecord) -> str:
    summary = record.summary()
    speed = f"{summary['records_per_second']:,.0f} rows/s"
    if record.status in RUNNING:
        return f"{record.status}: {summary['progress']} %, {speed}, {time_left(summary)} left"
    resuming = "; import again to resume it" if record.resumable else ""
    return f"{record.status} after {record.elapsed_seconds:.1f} s, {speed}{resuming}"


def show_status(settings: Settings, *, as_json: bool) -> None:
    """Print the saved progress, without opening the warehouse."""
    record = ImportLog(settings.data_dir).current() if settings.data_dir.is_dir() else None
    if as_json:
        print_json(record.summary() if record else PENDING_SUMMARY)
    elif record is None:
        print_line(_without_record(settings))
    else:
        print_summary(record, settings.warehouse_path)


def _without_record(settings: Settings) -> str:
    if settings.warehouse_path.exists():
        return f"no progress is saved in {settings.data_dir}: the next import reads every play"
    return f"nothing has been imported into {settings.data_dir} yet"
