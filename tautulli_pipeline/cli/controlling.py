"""The `stop` and `reset` commands."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.reporting import print_json
from tautulli_pipeline.imports.import_lock import Claim, ImportLock
from tautulli_pipeline.imports.overview import summary_of
from tautulli_pipeline.imports.record import PENDING_SUMMARY, ImportRecord, Status, log_of
from tautulli_pipeline.imports.reset import NOTHING, reset_progress
from tautulli_pipeline.imports.stopping import STOP_WAIT_SECONDS, stop_running_import
from tautulli_pipeline.settings import Settings


def run_stop(
    settings: Settings,
    *,
    as_json: bool,
    server: str | None = None,
    waits_seconds: float = STOP_WAIT_SECONDS,
) -> None:
    """Ask the running import to stop, and wait up to `waits_seconds` for it."""
    shown = settings
    if server is not None:
        (shown,) = settings.of_server(server)
    lock, only = ImportLock(settings.data_dir), shown.server if server else None
    claim = stop_running_import(lock, waits_seconds, print_notice, only)
    # The record of the import that was stopped.
    stopped = settings.of_server(claim.server)[0] if claim and claim.server else shown
    record = log_of(stopped).current()
    if as_json:
        print_json(summary_of(shown) | {"stop_requested": claim is not None})
    elif record is not None and claim is not None:
        print_line(_answer(record, claim))
    else:
        status = Status.FAILED if record and record.refused else record and record.status
        last = f"; status of the last one: {status}" if status else ""
        print_line(f"{_idle(shown, lock)}{last}")


def _idle(settings: Settings, lock: ImportLock) -> str:
    """Say that nothing was stopped; another server may be importing."""
    if not settings.server:
        return "no import is running"
    holder = lock.holder()
    other = f", but one of {holder.server} is" if holder and holder.server else ""
    return f"no import of {settings.server} is running{other}"


def _answer(record: ImportRecord, claim: Claim) -> str:
    summary = record.summary()
    progress = (
        f"{record.status} at {summary['progress']} %, "
        f"{record.outcomes.processed:,} of {record.total_records:,} plays"
    )
    if record.status is Status.COMPLETED:
        return f"{progress}: it finished before it could be stopped"
    if record.resumable and record.status not in {Status.RUNNING, Status.STOPPING}:
        return f"{progress}; import again to resume it"
    return (
        f"{progress}: process {claim.process_id} is still running; see `tautulli-pipeline status`"
    )


def run_reset(settings: Settings, *, as_json: bool, server: str | None = None) -> None:
    """Delete the saved progress, of one server or of all; the table is kept."""
    from tautulli_pipeline.orchestration.history import forget_history

    if server is not None:
        (settings,) = settings.of_server(server)
    forgotten = reset_progress(settings, partial(forget_history, settings))
    of_server = f" of {settings.server}" if settings.server else ""
    if as_json:
        counts = asdict(forgotten or NOTHING)
        print_json(PENDING_SUMMARY | {"forgotten": counts})
    elif forgotten is None:
        print_line(f"nothing to reset{of_server} in {settings.data_dir}")
    else:
        ranges = "1 range" if forgotten.partitions == 1 else f"{forgotten.partitions:,} ranges"
        print_line(f"deleted the progress{of_server} saved in {settings.data_dir} ({ranges})")
        print_line(f"the table is kept; the next import reads every play{of_server} again")
