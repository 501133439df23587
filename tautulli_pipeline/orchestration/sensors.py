"""What starts jobs: two sensors and two schedules, one of each for every server.

New plays start an import, pending events on the stream start a consumer, and once a night every
due partition is imported, or marked as due if imports may only start by hand. A failed job is
tried again, with longer and longer pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import dagster as dg
import orjson
from pydantic import TypeAdapter

from tautulli_pipeline.analytics.inputs import is_current, request_for
from tautulli_pipeline.configuration import Server
from tautulli_pipeline.data_dir.consumer_lock import is_consumer_running
from tautulli_pipeline.data_dir.directory import make_data_dir
from tautulli_pipeline.errors import PipelineError, in_one_line
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.fingerprints import fingerprint
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.record import log_of
from tautulli_pipeline.imports.source_watch import SourceState, read_source_state
from tautulli_pipeline.imports.sources import configured_source
from tautulli_pipeline.orchestration.history import history_of, last_materialized_at
from tautulli_pipeline.orchestration.jobs import consume_job, dry_run_job
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.orchestration.retries import latest_failures
from tautulli_pipeline.orchestration.workers import has_queued_runs, has_unfinished_runs
from tautulli_pipeline.settings import Settings, load_standing_settings
from tautulli_pipeline.stream.session import count_pending

_NO_DATABASE: Final = "IMPORT_DB_PATH is not set, so there is no database to watch"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _skipping_on_error(
    evaluate: Callable[Parameters, Result],
) -> Callable[Parameters, Result | dg.SkipReason]:
    """Skip with the message of a `PipelineError`, such as one about an invalid setting."""

    @wraps(evaluate)
    def evaluate_or_skip(
        *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result | dg.SkipReason:
        try:
            return evaluate(*args, **kwargs)
        except PipelineError as error:
            return dg.SkipReason(in_one_line(error))

    return evaluate_or_skip


def history_sensor_of(names: Names) -> dg.SensorDefinition:
    """Return the sensor that looks for new plays of a server."""

    @dg.sensor(
        name=names.sensor,
        job_name=names.job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Adds partitions for new plays. Also starts {names.job} if "
        "IMPORT_ENABLED=true.",
    )
    @_skipping_on_error
    def new_history_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Read the database only if its files have changed."""
        return _check_database(context, _settings_of(names, context.log.warning))

    return new_history_sensor


def _settings_of(names: Names, say: Callable[[str], None]) -> Settings:
    settings = load_standing_settings(say)
    return settings.of_server(names.server)[0] if names.server else settings


@dg.sensor(
    job=consume_job,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="While no import is running, starts consume_job if events are pending on the "
    "stream, if the last import added rows that playback_events has not recorded yet, or if the "
    "analytics are out of date.",
)
@_skipping_on_error
def stream_backlog_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Check the pending count of the durable consumer."""
    return _check_backlog(context, load_standing_settings(context.log.warning))


def import_schedule_of(names: Names) -> dg.ScheduleDefinition:
    """Return the schedule of the imports of a server."""

    @dg.schedule(
        name=names.schedule,
        job_name=names.job,
        cron_schedule="0 4 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Imports new and changed plays daily at 04:00 UTC if IMPORT_ENABLED=true.",
    )
    @_skipping_on_error
    def import_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Request an import; it determines what is due, including edits and deletes."""
        settings = _settings_of(names, context.log.warning)
        reason = _import_skip_reason(context.instance, settings)
        if reason is None and has_unfinished_runs(context.instance, names.job):
            reason = "an import is queued or running"
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return import_schedule


@dg.schedule(
    job=dry_run_job,
    cron_schedule="0 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Marks new and changed partitions daily at 04:00 UTC unless IMPORT_ENABLED=true.",
)
@_skipping_on_error
def dry_run_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request a dry run, so that the UI shows what is due although no import may start."""
    settings = load_standing_settings(context.log.warning)
    if settings.import_enabled:
        return dg.SkipReason("IMPORT_ENABLED is true, so import_schedule imports what is due")
    has_source = any(one.import_db_path for one in settings.each_server)
    return dg.RunRequest() if has_source else dg.SkipReason(_NO_DATABASE)


def _import_skip_reason(instance: dg.DagsterInstance, settings: Settings) -> str | None:
    """Return why sensors and the schedule must not start an import now; None if they may."""
    if not settings.import_enabled:
        return "IMPORT_ENABLED is not true, so imports only start by hand"
    if settings.import_db_path is None:
        return _NO_DATABASE
    log = log_of(settings)
    if log.lock.holder() is None or _is_run_of_another(instance, settings):
        return None
    return in_one_line(log.running())


def _is_run_of_another(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Whether a run for another server is importing; the next run waits for it in the queue."""
    others = (one for one in _servers(settings) if one.id != settings.server)
    return any(has_unfinished_runs(instance, Names(one.id).job) for one in others)


def _servers(settings: Settings) -> Sequence[Server]:
    """Return the servers of the configuration file."""
    return settings.configuration.servers


@dataclass(frozen=True)
class _Cursor:
    """The cursor of `new_history_sensor`.

    Attributes:
        seen: the database as last seen.
        asked: the database when an import was last requested.
        settings: the settings when an import was last requested, without secrets.
    """

    seen: SourceState | None = None
    asked: SourceState | None = None
    settings: str = ""

    @classmethod
    def parse(cls, text: str | None) -> _Cursor:
        return _CURSOR.validate_json(text) if text else cls()

    def serialize(self) -> str:
        return orjson.dumps(asdict(self)).decode()


_CURSOR: Final = TypeAdapter(_Cursor)


def _check_database(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    path, history = configured_source(settings), history_of(context.instance, settings)
    if path is None:
        return dg.SensorResult(skip_reason=_NO_DATABASE)
    cursor = _Cursor.parse(context.cursor)
    files, known = fingerprint(path), history.shown()
    if cursor.seen and cursor.seen.rows > 0 and not known:
        cursor = _Cursor()  # a reset has deleted the partitions
    added: list[str] = []
    if cursor.seen is None or cursor.seen.files != files:
        make_data_dir(settings)
        snapshots, batch_size = settings.layout.snapshots, settings.import_batch_size
        try:
            seen, keys = read_source_state(path, snapshots, files, history.grid(), batch_size)
        except PipelineError as error:  # not tried again until the file changes
            cursor = replace(cursor, seen=SourceState(files), asked=SourceState(files))
            return dg.SensorResult(skip_reason=in_one_line(error), cursor=cursor.serialize())
        cursor, added = replace(cursor, seen=seen), sorted(set(keys) - set(known))
    reason = _why_not_import(context.instance, settings, cursor)
    if reason is None:
        cursor = replace(cursor, asked=cursor.seen, settings=settings.fingerprint)
    return dg.SensorResult(
        run_requests=None if reason else [dg.RunRequest()],
        skip_reason=reason,
        cursor=cursor.serialize(),
        dynamic_partitions_requests=[
            dg.AddDynamicPartitionsRequest(Names(settings.server).partitions, added)
        ]
        if added
        else [],
    )


def _why_not_import(
    instance: dg.DagsterInstance, settings: Settings, cursor: _Cursor
) -> str | None:
    """Return why `new_history_sensor` must not start an import now; None if it may."""
    assert cursor.seen is not None
    if reason := _import_skip_reason(instance, settings):
        return reason
    job = Names(settings.server).job
    if has_unfinished_runs(instance, job):
        return "an import is queued or running"
    failures = latest_failures(instance, job)
    if failures is not None:
        is_same = cursor.asked is not None and cursor.asked.files == cursor.seen.files
        return failures.skip_reason(
            datetime.now(UTC),
            # A Tautulli that did not answer may answer now.
            cause_changed=not is_same
            or isinstance(settings.import_db_path, str)
            or cursor.settings != settings.fingerprint,
        )
    if cursor.seen.has_new_plays_since(cursor.asked):
        return None
    is_seen = cursor.asked == cursor.seen
    return "the database has not changed" if is_seen else "the database has no new plays"


def _check_backlog(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    reason = _consumer_skip_reason(context.instance, settings)
    if reason is None and not _has_something_to_record(context.instance, settings):
        with stream_address(settings) as address:
            reason = None if count_pending(address) else "no events are pending on the stream"
    return dg.SensorResult(skip_reason=reason) if reason else dg.SensorResult([dg.RunRequest()])


def _consumer_skip_reason(instance: dg.DagsterInstance, settings: Settings) -> str | None:
    """Return why no consumer may start now; None if one may."""
    if settings.nats_url is None and not settings.layout.stream.is_dir():
        return "nothing has been published yet"
    if ImportLock(settings.data_dir).holder():
        return "an import is running and consumes the events it publishes"
    if any(has_queued_runs(instance, Names(one.id).job) for one in _servers(settings)):
        # The statistics are built once for all of them.
        return "imports of other servers are queued and come first"
    if is_consumer_running(settings.layout) or has_unfinished_runs(instance, consume_job.name):
        return "a consumer is running"
    failures = latest_failures(instance, consume_job.name)
    return failures.skip_reason(datetime.now(UTC)) if failures else None


def _has_something_to_record(instance: dg.DagsterInstance, settings: Settings) -> bool:
    return _has_unrecorded_rows(instance, settings) or not is_current(request_for(settings))


def _has_unrecorded_rows(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Whether a last import stored rows and ended after `playback_events` was last recorded."""
    recorded_at = last_materialized_at(instance)
    for record in (log_of(one).read() for one in settings.each_server):
        if record is None or record.ended_at is None or not record.outcomes.processed:
            continue
        if record.ended_at.replace(tzinfo=None) > recorded_at:
            return True
    return False
