"""What starts jobs: two sensors and a schedule.

New plays start an import, pending events on the stream start a consumer, and the schedule imports
every due partition once a night.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
import orjson

from tautulli_pipeline.data_dir.consumer_lock import is_consumer_running
from tautulli_pipeline.data_dir.directory import make_data_dir
from tautulli_pipeline.errors import PipelineError, in_one_line
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.imports.source_watch import SourceState, fingerprint, read_source_state
from tautulli_pipeline.orchestration.history import PARTITIONS, DagsterHistory, last_materialized_at
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS
from tautulli_pipeline.orchestration.jobs import consume_job, import_job
from tautulli_pipeline.orchestration.workers import has_unfinished_runs
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.stream.session import count_pending

_NO_DATABASE: Final = "IMPORT_DB_PATH is not set, so there is no database to watch"
# A consumer that has just failed would most likely fail again.
_PAUSE_AFTER_FAILURE_SECONDS: Final = 120.0


@dg.sensor(
    job=import_job,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds partitions for new plays. Also starts import_job if IMPORT_ENABLED=true.",
)
def new_history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Read the database only if its files have changed."""
    try:
        return _check_database(context, load_settings())
    except PipelineError as error:
        return dg.SensorResult(skip_reason=in_one_line(error))


@dg.sensor(
    job=consume_job,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="While no import is running, starts consume_job if events are pending on the "
    "stream, or if the last import added rows that playback_events has not recorded yet.",
)
def stream_backlog_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Check the pending count of the durable consumer."""
    try:
        return _check_backlog(context, load_settings())
    except PipelineError as error:
        return dg.SensorResult(skip_reason=in_one_line(error))


@dg.schedule(
    job=import_job,
    cron_schedule="0 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Imports new and changed plays daily at 04:00 UTC if IMPORT_ENABLED=true.",
)
def import_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request an import. The import itself determines what is due, including edits and deletes."""
    try:
        reason = _import_skip_reason(load_settings())
    except PipelineError as error:
        reason = in_one_line(error)
    if reason is None and has_unfinished_runs(context.instance, import_job.name):
        reason = "an import is queued or running"
    return dg.SkipReason(reason) if reason else dg.RunRequest()


def _import_skip_reason(settings: Settings) -> str | None:
    """Return why sensors and the schedule must not start an import now; None if they may."""
    if not settings.import_enabled:
        return "IMPORT_ENABLED is not true, so imports only start by hand"
    if settings.import_db_path is None:
        return _NO_DATABASE
    log = ImportLog(settings.data_dir)
    return in_one_line(log.running()) if log.lock.holder() else None


@dataclass(frozen=True)
class _Cursor:
    """The cursor of `new_history_sensor`.

    Attributes:
        seen: the database as last seen.
        asked: the database when an import was last requested.
    """

    seen: SourceState | None = None
    asked: SourceState | None = None

    @classmethod
    def parse(cls, text: str | None) -> _Cursor:
        fields = orjson.loads(text) if text else {}
        return cls(**{name: SourceState(**state) for name, state in fields.items() if state})

    def serialize(self) -> str:
        return orjson.dumps(asdict(self)).decode()


def _check_database(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    path, history = settings.import_db_path, DagsterHistory(context.instance)
    if path is None:
        return dg.SensorResult(skip_reason=_NO_DATABASE)
    cursor = _Cursor.parse(context.cursor)
    files, reason = fingerprint(path), _import_skip_reason(settings)
    known = history.shown()
    if cursor.seen and cursor.seen.rows > 0 and not known:
        cursor = _Cursor()  # a reset has deleted the partitions
    if cursor.seen and cursor.seen.files == files and (reason or cursor.asked == cursor.seen):
        return dg.SensorResult(skip_reason=reason or "the database has not changed")
    make_data_dir(settings)
    grid, snapshots = history.grid(), settings.layout.snapshots
    try:
        state, keys = read_source_state(path, snapshots, files, grid, settings.import_batch_size)
    except PipelineError as error:  # not tried again until the file changes
        cursor = replace(cursor, seen=SourceState(files), asked=SourceState(files))
        return dg.SensorResult(skip_reason=in_one_line(error), cursor=cursor.serialize())
    cursor = replace(cursor, seen=state)
    added = sorted(set(keys) - set(known))
    adding = [PARTITIONS.build_add_request(added)] if added else []
    if reason is None and not state.has_new_plays_since(cursor.asked):
        cursor, reason = replace(cursor, asked=state), "the database has no new plays"
    elif reason is None and has_unfinished_runs(context.instance, import_job.name):
        cursor, reason = replace(cursor, seen=None), "an import is queued or running"
    if reason:
        return dg.SensorResult(
            skip_reason=reason, cursor=cursor.serialize(), dynamic_partitions_requests=adding
        )
    return dg.SensorResult(
        run_requests=[dg.RunRequest()],
        cursor=replace(cursor, asked=state).serialize(),
        dynamic_partitions_requests=adding,
    )


def _check_backlog(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    reason = _consumer_skip_reason(context.instance, settings)
    if reason is None and not _has_unrecorded_rows(context.instance, settings):
        with stream_address(settings) as address:
            reason = None if count_pending(address) else "no events are pending on the stream"
    return dg.SensorResult(skip_reason=reason) if reason else dg.SensorResult([dg.RunRequest()])


def _consumer_skip_reason(instance: dg.DagsterInstance, settings: Settings) -> str | None:
    """Return why no consumer may start now; None if one may."""
    if settings.nats_url is None and not settings.layout.stream.is_dir():
        return "nothing has been published yet"
    if ImportLog(settings.data_dir).lock.holder():
        return "an import is running and consumes the events it publishes"
    if is_consumer_running(settings.layout) or has_unfinished_runs(instance, consume_job.name):
        return "a consumer is running"
    if failed_at := _recent_failure(instance):
        return (
            f"consume_job failed at {failed_at:%H:%M:%S} UTC; it is retried "
            f"{_PAUSE_AFTER_FAILURE_SECONDS:.0f} s after the failure, or when started by hand"
        )
    return None


def _has_unrecorded_rows(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Whether the last import stored rows and ended after `playback_events` was last recorded."""
    record = ImportLog(settings.data_dir).read()
    if record is None or record.ended_at is None or not record.outcomes.processed:
        return False
    return record.ended_at.replace(tzinfo=None) > last_materialized_at(instance)


def _recent_failure(instance: dg.DagsterInstance) -> datetime | None:
    """Return when the latest `consume_job` run failed; None unless it just did.

    Runs of the command line do not count.
    """
    records = instance.get_run_records(dg.RunsFilter(job_name=consume_job.name), limit=1)
    for record in records:
        run = record.dagster_run
        is_from_command_line = COMMAND_LINE_TAGS.keys() <= run.tags.keys()
        if run.status is dg.DagsterRunStatus.FAILURE and not is_from_command_line:
            ended_at = datetime.fromtimestamp(record.end_time or 0, UTC)
            pause = timedelta(seconds=_PAUSE_AFTER_FAILURE_SECONDS)
            return ended_at if datetime.now(UTC) - ended_at < pause else None
    return None
