"""Metadata of run events: figures for machines and small Markdown tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg

from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, REJECTED, UNREADABLE, Receipt
from tautulli_pipeline.imports.record import ImportRecord
from tautulli_pipeline.imports.results import counts_of, counts_outside
from tautulli_pipeline.imports.validation import Findings
from tautulli_pipeline.orchestration.column_schemas import SCHEMA
from tautulli_pipeline.source.damage import in_words
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline.warehouse.audit_words import REASONS_IN_WORDS

# Pairs of month (YYYY-MM) and number of plays, in order.
Months = Sequence[tuple[str, int]]

# Longer histories are charted by year. Dagster shows a text of 1,000 characters only on request.
_MAX_CHART_LINES: Final = 18
_MAX_BAR_LENGTH: Final = 20
_RANGES_SHOWN: Final = 20


def table(rows: Iterable[tuple[str, object]], heading: tuple[str, str]) -> str:
    """Return a Markdown table of two columns; integers get thousands separators."""
    lines = [f"| {name} | {_formatted(value)} |" for name, value in rows]
    return "\n".join([f"| {heading[0]} | {heading[1]} |", "|:--|--:|", *lines])


def _formatted(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def chart_of_plays(months: Months) -> str:
    """Return a Markdown table with a bar per month, or per year if the history is long.

    If there are too many years, the first lines are left out.
    """
    if not months:
        return "No plays."
    unit, counted = "month", Counter(dict(months))
    if len(months) > _MAX_CHART_LINES:
        unit, counted = "year", Counter()
        for month, plays in months:
            counted[month.rpartition("-")[0]] += plays
    shown = [*counted.items()][-_MAX_CHART_LINES:]
    highest = max(plays for _, plays in shown)
    lines = [
        f"| {name} | {plays:,} | {'█' * max(1, round(_MAX_BAR_LENGTH * plays / highest))} |"
        for name, plays in shown
    ]
    return "\n".join([f"| {unit} | plays | |", "|:--|--:|:--|", *lines])


def source_metadata(source: OpenSource, contents: Collection[PartitionContent]) -> dict[str, Any]:
    """Return the metadata of an observation of `tautulli_database` with these partitions."""
    columns = [
        dg.TableColumn(f"{name}.{column}", "any")
        for name, columns in source.schema.history_columns.items()
        for column in columns
    ]
    starts = [moment for content in contents for moment in content.started or ()]
    unreadable = [in_words(damage.facts()) for damage in source.salvage.damages]
    with source.open_survey() as survey:
        users, ids = survey.count_users(), survey.id_range()
    return {
        "path": dg.MetadataValue.path(str(source.path)),
        "fingerprint": source.snapshot.fingerprint,
        "size_bytes": source.snapshot.size_bytes,
        "tautulli_version": source.schema.tautulli_version or "unknown",
        "dagster/row_count": sum(content.rows for content in contents),
        "partitions": len(contents),
        "users": users,
        **_ids(ids),
        **_span((min(starts), max(starts)) if starts else None),
        **({"unreadable": dg.MetadataValue.json(unreadable)} if unreadable else {}),
        SCHEMA: dg.TableSchema(columns=columns),
    }


def history_metadata(receipt: Receipt, content: PartitionContent) -> dict[str, Any]:
    """Return the metadata of a materialized partition of `session_history`."""
    return {
        "dagster/partition_row_count": receipt.rows.num_rows,
        **_ids(_id_range(receipt)),
        **_span(content.started),
    }


def stream_metadata(receipt: Receipt, content: PartitionContent) -> dict[str, Any]:
    """Return the metadata of a materialized partition of `playback_stream`."""
    outcomes = receipt.rows["outcome"].to_pylist()
    read = len(outcomes) - outcomes.count(UNREADABLE)
    return {
        "rows_read": read,
        "published": outcomes.count(PUBLISHED),
        "duplicate_acks": outcomes.count(DUPLICATE),
        "rejected": outcomes.count(REJECTED),
        "unreadable": outcomes.count(UNREADABLE),
        "seconds": round(receipt.seconds, 3),
        "rows_per_second": round(read / receipt.seconds) if receipt.seconds else 0,
        **_ids(_id_range(receipt)),
        **_span(content.started),
        "import_id": receipt.import_id,
        "last_stream_sequence": receipt.last_sequence,
    }


def import_metadata(record: ImportRecord, ranges: int) -> dict[str, Any]:
    """Return the metadata of the observation that summarizes the import of a run.

    Args:
        record: the import, which has ended.
        ranges: the number of ranges that the run published.
    """
    rows: list[tuple[str, object]] = [
        *counts_of(record).items(),
        ("plays in this import", record.total_records),
        *counts_outside(record).items(),
        ("ranges published by this run", ranges),
        ("seconds", f"{record.elapsed_seconds:,.1f}"),
    ]
    return {
        "summary": dg.MetadataValue.md(table(rows, ("this import", ""))),
        "import_id": record.import_id,
    }


def arrival_metadata(arrivals: Arrivals, warehouse: Path) -> dict[str, Any]:
    """Return the metadata of a materialization of `playback_events` in the file `warehouse`."""
    rows: list[tuple[str, object]] = [("imported", arrivals.stored)]
    rows += [
        (f"duplicates, {REASONS_IN_WORDS.get(reason, reason)} ({layer})", plays)
        for layer, reason, plays in arrivals.discarded
    ]
    rows += [("dead letters", arrivals.dead_letters), ("plays in the table", arrivals.row_count)]
    span = arrivals.span
    return {
        "path": dg.MetadataValue.path(str(warehouse)),
        "dagster/row_count": arrivals.row_count,
        "inserted": arrivals.stored,
        **_span(span and (_unix(span[0]), _unix(span[1]))),
        "summary": dg.MetadataValue.md(table(rows, ("this run", "plays"))),
        "plays_by_month": dg.MetadataValue.md(chart_of_plays(arrivals.months)),
    }


def verdict_metadata(findings: Findings) -> dict[str, Any]:
    """Return the metadata of a dry run."""
    rows = [*findings.verdicts().items(), ("plays in the database", findings.total_records)]
    counts = table(rows, ("dry run; nothing was published", "plays"))
    return {
        "verdict": dg.MetadataValue.md("\n\n".join([counts, "; ".join(findings.compared_with())])),
        "new": findings.new,
        **{f"duplicate_{key}": plays for key, plays in findings.duplicates.items()},
        "rejected": findings.rejected,
        "unreadable": findings.errors,
        "total_records": findings.total_records,
        "compared_with_table": findings.warehouse.compared,
    }


def ranges_table(new: Sequence[str], changed: Sequence[str], gone: Sequence[str]) -> str:
    """Return the ranges of ids that differ from the last import, as a Markdown table."""
    kinds = {"new": new, "changed": changed, "no longer in the source": gone}
    lines = [
        f"| {kind} | {len(keys):,} | {', '.join(keys[:_RANGES_SHOWN])}"
        f"{' ...' if len(keys) > _RANGES_SHOWN else ''} |"
        for kind, keys in kinds.items()
        if keys
    ]
    if not lines:
        return "No range has changed since it was published."
    return "\n".join(["| ranges | | |", "|:--|--:|:--|", *lines])


def _id_range(receipt: Receipt) -> tuple[int, int] | None:
    ids = receipt.rows["source_row_id"].drop_null()
    return (ids[0].as_py(), ids[-1].as_py()) if len(ids) else None


def _ids(ids: tuple[int, int] | None) -> dict[str, Any]:
    return {"first_id": ids[0], "last_id": ids[1]} if ids else {}


def _span(started: tuple[int, int] | None) -> dict[str, Any]:
    if started is None:
        return {}
    first, last = (dg.MetadataValue.timestamp(float(moment)) for moment in started)
    return {"first_play": first, "last_play": last}


def _unix(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp())
