"""The progress of all servers together, as `import`, `status` and the HTTP routes show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tautulli_pipeline.imports.record import PENDING_SUMMARY, ImportRecord, Status, log_of
from tautulli_pipeline.settings import Settings

# The first of these that a server has is the status of all.
_STATUSES: Final = (
    Status.RUNNING,
    Status.STOPPING,
    Status.FAILED,
    Status.STOPPED,
    Status.PENDING,
    Status.COMPLETED,
)
_SUMS: Final = (
    *("total_records", "unchanged", "pending", "revised", "processed", "published", "imported"),
    *("rejected", "errors", "elapsed_seconds", "upgrade_seconds"),
    "estimated_remaining_seconds",
)
_DUPLICATES: Final = ("stream", "cache", "database")
_FIRST: Final = "start_time"
_LAST: Final = ("end_time", "checked_time")


def summary_of_server(
    settings: Settings, record: ImportRecord | None, error: str | None = None
) -> dict[str, Any]:
    """Return the summary of one server of the configuration file.

    Args:
        settings: the settings of the server.
        record: its running or last import.
        error: why an attempt failed, if the record does not say it.
    """
    shown = record.summary() if record else PENDING_SUMMARY
    source = shown["source"] or str(settings.import_db_path)
    facts = {"id": settings.server, **shown, "source": source, "server_id": settings.server}
    refused = error or (record.refused if record else None)
    if refused:
        facts |= {"status": Status.FAILED.value, "error": refused}
    return {**facts, "error": facts.get("error")}


def summary_of(settings: Settings) -> dict[str, Any]:
    """Return the progress of the running or last import, with that of each server."""
    if not settings.data_dir.is_dir() and not settings.has_servers:
        return PENDING_SUMMARY
    if not settings.has_servers or settings.server:
        record = log_of(settings).current()
        return record.summary() if record else PENDING_SUMMARY
    return together([summary_of_server(one, log_of(one).current()) for one in settings.each_server])


def together(servers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of the summaries of several servers, and the summaries."""
    sums = {name: sum(one[name] for one in servers) for name in _SUMS}
    duplicates = {name: sum(one["duplicates"][name] for one in servers) for name in _DUPLICATES}
    found = {one["status"] for one in servers}
    status = next((one.value for one in _STATUSES if one in found), Status.PENDING.value)
    total, processed, elapsed = sums["total_records"], sums["processed"], sums["elapsed_seconds"]
    import_seconds = elapsed - sums["upgrade_seconds"]
    progress_of_nothing = 100.0 if status == Status.COMPLETED else 0.0
    errors = [one["error"] for one in servers if one["error"]]
    starts = [one[_FIRST] for one in servers if one[_FIRST]]
    ends = {name: max((one[name] for one in servers if one[name]), default=None) for name in _LAST}
    return {
        **PENDING_SUMMARY,
        **sums,
        **ends,
        "status": status,
        "dry_run": any(one["dry_run"] for one in servers),
        "progress": 1000 * processed // total / 10 if total else progress_of_nothing,
        "duplicates": duplicates,
        "unreadable": [damage for one in servers for damage in one["unreadable"]],
        "records_per_second": round(processed / import_seconds, 1) if import_seconds > 0 else 0.0,
        "start_time": min(starts, default=None),
        "elapsed_seconds": round(elapsed, 3),
        "upgrade_seconds": round(sums["upgrade_seconds"], 3),
        "last_processed_id": max((one["last_processed_id"] for one in servers), default=0),
        **({"error": errors[0]} if errors else {}),
        "servers": list(servers),
    }
