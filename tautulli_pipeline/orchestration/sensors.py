"""The sensors: new plays lead to an import, what waits on the stream to a consumer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
import orjson

from tautulli_pipeline.data_dir.consumer_lock import is_consumer_running
from tautulli_pipeline.data_dir.directory import make_data_dir
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.imports.source_watch import SourceState, fingerprint, read_source_state
from tautulli_pipeline.orchestration.history import PARTITIONS, known_grid, last_materialized_at
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS
from tautulli_pipeline.orchestration.jobs import consume_job, import_job
from tautulli_pipeline.orchestration.workers import unended_runs
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.stream.session import count_pending

NOT_ENABLED: Final = "IMPORT_ENABLED is not true, so only a person starts imports"
NO_DATABASE: Final = "IMPORT_DB_PATH is not set, so there is no database to watch"
# A consumer that failed would most likely fail again.
_PAUSE_AFTER_FAILURE_SECONDS: Final = 120.0


@dg.sensor(
    job=import_job,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the ranges of new plays known and, with IMPORT_ENABLED=true, imports them.",
)
def new_history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Look into the database only where its files have changed."""
    try:
        return _seek_plays(context, load_settings())
    except PipelineError as error:
        return dg.SensorResult(skip_reason=in_words(error))


@dg.sensor(
    job=consume_job,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts consume_job when something waits on the stream, or came into the table "
    "unrecorded, and no import is running.",
)
def stream_backlog_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Look at the pending count of the durable consumer."""
    try:
        return _seek_backlog(context, load_settings())
    except PipelineError as error:
        return dg.SensorResult(skip_reason=in_words(error))


def in_words(error: PipelineError) -> str:
    """A fault with its remedy, in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def why_not(settings: Settings) -> str | None:
    """Why nothing but a person may start an import now; None where the way is free."""
    if not settings.import_enabled:
        return NOT_ENABLED
    if settings.import_db_path is None:
        return NO_DATABASE
    log = ImportLog(settings.data_dir)
    return in_words(log.running()) if log.lock.holder() else None


@dataclass(frozen=True)
class _Memory:
    """The cursor of `new_history_sensor`: what it saw last, and for what it asked for an import."""

    seen: SourceState | None = None
    asked: SourceState | None = None

    @classmethod
    def of(cls, cursor: str | None) -> _Memory:
        fields = orjson.loads(cursor) if cursor else {}
        return cls(**{name: SourceState(**state) for name, state in fields.items() if state})

    def cursor(self) -> str:
        return orjson.dumps(asdict(self)).decode()


def _seek_plays(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    path, instance = settings.import_db_path, context.instance
    if path is None:
        return dg.SensorResult(skip_reason=NO_DATABASE)
    memory = _Memory.of(context.cursor)
    files, reason = fingerprint(path), why_not(settings)
    known = instance.get_dynamic_partitions(PARTITIONS.name or "")
    if memory.seen and memory.seen.rows > 0 and not known:
        memory = _Memory()  # a reset has forgotten them
    if memory.seen and memory.seen.files == files and (reason or memory.asked == memory.seen):
        return dg.SensorResult(skip_reason=reason or "the database has not changed")
    make_data_dir(settings)
    grid, snapshots = known_grid(instance), settings.layout.snapshots
    try:
        state, keys = read_source_state(path, snapshots, files, grid, settings.import_batch_size)
    except PipelineError as error:  # and once is enough until it changes
        memory = replace(memory, seen=SourceState(files), asked=SourceState(files))
        return dg.SensorResult(skip_reason=in_words(error), cursor=memory.cursor())
    memory = replace(memory, seen=state)
    added = sorted(set(keys) - set(known))
    adding = [PARTITIONS.build_add_request(added)] if added else []
    if reason is None and not state.has_new_plays_since(memory.asked):
        memory, reason = replace(memory, asked=state), "the database has no new plays"
    elif reason is None and unended_runs(instance, import_job.name):
        memory, reason = replace(memory, seen=None), "an import is about to start"
    if reason:
        return dg.SensorResult(
            skip_reason=reason, cursor=memory.cursor(), dynamic_partitions_requests=adding
        )
    return dg.SensorResult(
        run_requests=[dg.RunRequest()],
        cursor=replace(memory, asked=state).cursor(),
        dynamic_partitions_requests=adding,
    )


def _seek_backlog(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    reason = _why_not_consume(context.instance, settings)
    if reason is None and not _has_unrecorded_rows(context.instance, settings):
        with stream_address(settings) as address:
            reason = None if count_pending(address) else "nothing waits on the stream"
    return dg.SensorResult(skip_reason=reason) if reason else dg.SensorResult([dg.RunRequest()])


def _why_not_consume(instance: dg.DagsterInstance, settings: Settings) -> str | None:
    """Why no consumer may start now; None where one may."""
    if settings.nats_url is None and not settings.layout.stream.is_dir():
        return "nothing was ever published"
    if ImportLog(settings.data_dir).lock.holder():
        return "an import is running, which consumes what it publishes"
    if is_consumer_running(settings.layout) or unended_runs(instance, consume_job.name):
        return "a consumer is running"
    if failed_at := _failed_a_moment_ago(instance):
        return (
            f"consume_job failed at {failed_at:%H:%M:%S} UTC; it is tried again "
            f"{_PAUSE_AFTER_FAILURE_SECONDS:.0f} s after that, or when somebody starts it"
        )
    return None


def _has_unrecorded_rows(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Whether the last import ended after `playback_events` was recorded last."""
    record = ImportLog(settings.data_dir).read()
    if record is None or record.ended_at is None or not record.outcomes.processed:
        return False
    return record.ended_at.replace(tzinfo=None) > last_materialized_at(instance)


def _failed_a_moment_ago(instance: dg.DagsterInstance) -> datetime | None:
    """When the last run of the consumer failed by itself, where that is not long ago."""
    records = instance.get_run_records(dg.RunsFilter(job_name=consume_job.name), limit=1)
    for record in records:
        run = record.dagster_run
        of_the_command_line = COMMAND_LINE_TAGS.keys() <= run.tags.keys()
        if run.status is dg.DagsterRunStatus.FAILURE and not of_the_command_line:
            ended_at = datetime.fromtimestamp(record.end_time or 0, UTC)
            pause = timedelta(seconds=_PAUSE_AFTER_FAILURE_SECONDS)
            return ended_at if datetime.now(UTC) - ended_at < pause else None
    return None
