"""The `stop` and `reset` commands."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.reporting import print_json
from tautulli_pipeline.imports.import_lock import Claim
from tautulli_pipeline.imports.record import PENDING_SUMMARY, ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.reset import NOTHING, reset_progress
from tautulli_pipeline.imports.stopping import STOP_WAIT_SECONDS, stop_running_import
from tautulli_pipeline.settings import Settings


def run_stop(
    settings: Settings, *, as_json: bool, waits_seconds: float = STOP_WAIT_SECONDS
) -> None:
    """Ask the running import to stop, and wait up to `waits_seconds` for it."""
    log = ImportLog(settings.data_dir)
    claim = stop_running_import(log, waits_seconds, print_notice)
    record = log.current()
    if as_json:
        summary = record.summary() if record else PENDING_SUMMARY
        print_json(summary | {"stop_requested": claim is not None})
    elif record is None:
        print_line("no import is running")
    elif claim is None:
        print_line(f"no import is running; status of the last one: {record.status}")
    else:
        print_line(_answer(record, claim))


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


def run_reset(settings: Settings, *, as_json: bool) -> None:
    """Delete the saved progress; the table is kept."""
    from tautulli_pipeline.orchestration.history import forget_history

    forgotten = reset_progress(settings, partial(forget_history, settings.data_dir))
    if as_json:
        counts = asdict(forgotten or NOTHING)
        print_json(PENDING_SUMMARY | {"forgotten": counts})
    elif forgotten is None:
        print_line(f"nothing to reset in {settings.data_dir}")
    else:
        print_line(
            f"deleted the progress saved in {settings.data_dir} ({forgotten.partitions:,} ranges)"
        )
        print_line("the table is kept; the next import reads every play again")
