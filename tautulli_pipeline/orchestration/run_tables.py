"""What the events of a run say: figures for machines, one small table for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import dagster as dg

from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, REJECTED, UNREADABLE, Receipt
from tautulli_pipeline.imports.validation import Findings
from tautulli_pipeline.orchestration.column_schemas import SCHEMA
from tautulli_pipeline.source.opening import SourceFacts
from tautulli_pipeline.source.partitions import Partition
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline.warehouse.audit_words import REASONS_IN_WORDS

# Month as YYYY-MM, plays; in order.
Months = Sequence[tuple[str, int]]

_NO_PLAYS: Final = "No plays."

# With more months than this, a line stands for a year.
_MOST_CHART_LINES: Final = 36
_LONGEST_BAR: Final = 30
_RANGES_SHOWN: Final = 20
# What of a range's `stream_metadata` is summed up, and how the sum is called.
_COUNTED: Final = {
    "rows_read": "plays read",
    "published": "published",
    "duplicate_acks": "on the stream already",
    "rejected": "rejected, see `dead_letters`",
    "unreadable": "unreadable",
}


def table(rows: Iterable[tuple[str, object]], heading: tuple[str, str]) -> str:
    """A Markdown table of two columns, whole numbers with their thousands apart."""
    lines = [f"| {name} | {_shown(value)} |" for name, value in rows]
    return "\n".join([f"| {heading[0]} | {heading[1]} |", "|:--|--:|", *lines])


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def chart_of_plays(months: Months) -> str:
    """A Markdown table with one bar for each month, or for each year of a long history."""
    if not months:
        return _NO_PLAYS
    unit, counted = "month", Counter(dict(months))
    if len(months) > _MOST_CHART_LINES:
        unit, counted = "year", Counter()
        for month, plays in months:
            counted[month.rpartition("-")[0]] += plays
    highest = max(counted.values())
    lines = [
        f"| {name} | {plays:,} | {'█' * max(1, round(_LONGEST_BAR * plays / highest))} |"
        for name, plays in counted.items()
    ]
    return "\n".join([f"| {unit} | plays | |", "|:--|--:|:--|", *lines])


def source_metadata(facts: SourceFacts) -> dict[str, Any]:
    """Of the observation of `tautulli_database`."""
    columns = [
        dg.TableColumn(f"{name}.{column}", "any")
        for name, columns in facts.tables.items()
        for column in columns
    ]
    return {
        "path": dg.MetadataValue.path(str(facts.path)),
        "fingerprint": facts.fingerprint,
        "size_bytes": facts.size_bytes,
        "tautulli_version": facts.tautulli_version or "unknown",
        "dagster/row_count": facts.rows,
        "partitions": facts.partitions,
        "users": facts.users,
        **_ids(facts.ids),
        **_span(facts.started),
        **(
            {"unreadable": dg.MetadataValue.json(list(facts.unreadable))}
            if facts.unreadable
            else {}
        ),
        SCHEMA: dg.TableSchema(columns=columns),
    }


def history_metadata(receipt: Receipt, content: PartitionContent) -> dict[str, Any]:
    """Of a partition of `session_history`."""
    return {
        "dagster/partition_row_count": receipt.rows.num_rows,
        **_ids(_id_range(receipt)),
        **_span(content.started),
    }


def stream_metadata(receipt: Receipt, content: PartitionContent) -> dict[str, Any]:
    """Of a partition of `playback_stream`."""
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


@dataclass
class Published:
    """What a run has published so far; what it publishes again counts once."""

    partitions: list[Partition] = field(default_factory=list)
    began_at: float = field(default_factory=time.monotonic)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, partition: Partition, metadata: Mapping[str, Any]) -> None:
        """Take in a partition and its `stream_metadata`."""
        if partition in self.partitions:
            return
        self.partitions.append(partition)
        self._counts.update({name: metadata[name] for name in _COUNTED})

    def metadata(self, months: Months, unchanged: int) -> dict[str, Any]:
        """Of the observation that sums up the run."""
        seconds = time.monotonic() - self.began_at
        read = self._counts["rows_read"]
        rows: list[tuple[str, object]] = [
            ("ranges", len(self.partitions)),
            *((told, self._counts[name]) for name, told in _COUNTED.items()),
            ("unchanged since an earlier import", unchanged),
            ("seconds", f"{seconds:,.1f}"),
            ("plays a second", f"{read / seconds:,.0f}"),
        ]
        return {
            "summary": dg.MetadataValue.md(table(rows, ("this run", ""))),
            "plays_by_month": dg.MetadataValue.md(chart_of_plays(months)),
        }


def arrival_metadata(arrivals: Arrivals) -> dict[str, Any]:
    """Of the materialization of `playback_events`."""
    rows: list[tuple[str, object]] = [("imported", arrivals.stored)]
    rows += [
        (f"duplicate, {REASONS_IN_WORDS.get(reason, reason)} ({layer})", plays)
        for layer, reason, plays in arrivals.discarded
    ]
    rows += [("dead letters", arrivals.dead_letters), ("plays in the table", arrivals.row_count)]
    span = arrivals.span
    return {
        "dagster/row_count": arrivals.row_count,
        "inserted": arrivals.stored,
        **({"first_play": f"{span[0]} UTC", "last_play": f"{span[1]} UTC"} if span else {}),
        "summary": dg.MetadataValue.md(table(rows, ("this run", "plays"))),
        "plays_by_month": dg.MetadataValue.md(chart_of_plays(arrivals.months)),
    }


def verdict_metadata(findings: Findings) -> dict[str, Any]:
    """Of a dry run."""
    rows = [*findings.verdicts().items(), ("plays in the database", findings.total_records)]
    told = table(rows, ("nothing was published; an import", "plays"))
    return {
        "verdict": dg.MetadataValue.md("\n\n".join([told, "; ".join(findings.compared_with())])),
        "new": findings.outcome.new,
        **{f"duplicate_{key}": plays for key, plays in findings.outcome.duplicates.items()},
        "rejected": findings.rejected,
        "unreadable": findings.errors,
        "total_records": findings.total_records,
        "compared_with_table": findings.warehouse.compared,
    }


def ranges_in_words(new: Sequence[str], changed: Sequence[str], gone: Sequence[str]) -> str:
    """Which ranges of ids an import would run, as Markdown."""
    kinds = {"new": new, "changed": changed, "gone from the source": gone}
    lines = [
        f"| {kind} | {len(keys):,} | {', '.join(keys[:_RANGES_SHOWN])}"
        f"{' ...' if len(keys) > _RANGES_SHOWN else ''} |"
        for kind, keys in kinds.items()
        if keys
    ]
    if not lines:
        return "Every range is as it was when it was published."
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
