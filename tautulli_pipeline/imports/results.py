"""What an import did, in words and counts: for the command line and for Dagster."""

from __future__ import annotations

from tautulli_pipeline.imports.record import ImportRecord, Status


def headline(record: ImportRecord) -> str:
    """Return one sentence about an import that has ended."""
    outcomes = record.outcomes
    after = f"{record.elapsed_seconds:,.1f} s"
    if record.status is Status.COMPLETED:
        if outcomes.imported:
            speed = f"{record.summary()['records_per_second']:,.0f} plays/s"
            return f"{in_short(record)} from {record.source} in {after} ({speed})"
        if outcomes.revised:
            return f"{in_short(record)} of {record.source} in {after}; there are no new ones"
        if record.total_records:
            return f"no new plays among {_plays(record.total_records)} of {record.source} ({after})"
        if record.unchanged:
            return f"nothing new: {_plays(record.unchanged)} of {record.source} are unchanged"
        return f"there are no plays in {record.source}"
    parts = [f"the import {record.status} after {after}"]
    parts += [f"{outcomes.processed:,} of {_plays(record.total_records)} are done"]
    parts += ["import again to resume it"] if record.resumable else []
    return "; ".join(parts) + (f" ({record.error})" if record.error else "")


def in_short(record: ImportRecord) -> str:
    """Return a few words about a completed import."""
    imported, corrected = record.outcomes.imported, record.outcomes.revised
    if imported:
        return f"imported {_plays(imported)}" + (f", corrected {corrected:,}" if corrected else "")
    if corrected:
        return f"corrected {_plays(corrected)}"
    return "no new plays" if record.total_records else "nothing new"


def counts_of(record: ImportRecord) -> dict[str, int]:
    """Return the number of plays with each outcome; only `imported` may be zero."""
    outcomes = record.outcomes
    others = {
        "duplicates found by the stream": outcomes.duplicates_stream,
        "duplicates found by the cache": outcomes.duplicates_cache,
        "duplicates already in the table": outcomes.duplicates_database,
        "rejected": outcomes.rejected,
        "unreadable": outcomes.errors,
    }
    return {"imported": outcomes.imported} | _not_zero(others)


def counts_outside(record: ImportRecord) -> dict[str, int]:
    """Return the numbers of plays that the import did not cover, without zeros."""
    return _not_zero(
        {
            "unchanged since an earlier import": record.unchanged,
            "not imported yet": record.pending,
        }
    )


def _not_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _plays(count: int) -> str:
    return f"{count:,} play{'' if count == 1 else 's'}"
