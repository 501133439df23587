"""The record of the running or last import."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from filelock import Timeout
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import (
    ConfigurationError,
    ImportRunningError,
    StoppedError,
    in_one_line,
)
from tautulli_pipeline.imports.import_lock import Claim, ImportLock
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Named


class Status(StrEnum):
    """The status of an import."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


RUNNING: Final = frozenset({Status.RUNNING, Status.STOPPING})


@dataclass(frozen=True)
class Outcomes:
    """The number of rows with each outcome; a row has one outcome per import.

    Attributes:
        revised: the duplicates among them that brought newer content.
        logged: the duplicates among them that have a row in the audit log.
    """

    published: int = 0
    imported: int = 0
    duplicates_stream: int = 0
    duplicates_cache: int = 0
    duplicates_database: int = 0
    rejected: int = 0
    errors: int = 0
    revised: int = 0
    logged: int = 0

    @property
    def processed(self) -> int:
        """Rows whose outcome is known."""
        return self.imported + self.duplicates + self.rejected + self.errors

    @property
    def duplicates(self) -> int:
        """The number of duplicates that any layer found."""
        return self.duplicates_stream + self.duplicates_cache + self.duplicates_database


@dataclass(frozen=True)
class ImportRecord:
    """The scope and progress of one import.

    Attributes:
        total_records: rows in the partitions it covers.
        unchanged: rows in partitions that were finished before it began.
        pending: rows that are neither covered nor finished.
        covered: keys of the partitions it covers.
        elapsed_seconds: the time that the user waited, over all attempts.
        upgrade_seconds: how much of it an upgrade of the warehouse took.
        ended_at: when its last attempt ended, in UTC.
        unreadable: the unreadable parts of the source, as `Damage.facts` returns them.
        server_id: the Plex server in keys and rows; '' in records of version 0.1.0.
        error: why it failed.
        sent_records: rows of this attempt that are on the stream.
        checked_at: when a later import found nothing new, in UTC.
        refused: why a later attempt could not begin.
        status_before: the status of the attempt before this one; None if it is the first.
        last_completed_at: when an import last completed, this one or an earlier one, in UTC.
        begun: by server, the partitions that earlier imports began and no later one has finished,
            each with the import that began it last.
    """

    import_id: str
    source: str
    fresh: bool
    status: Status
    started_at: datetime
    process_id: int
    total_records: int = 0
    unchanged: int = 0
    pending: int = 0
    covered: tuple[str, ...] = ()
    last_processed_id: int = 0
    elapsed_seconds: float = 0.0
    upgrade_seconds: float = 0.0
    dry_run: bool = False
    # Version 0.1.0 stored them as `fates`.
    outcomes: Annotated[Outcomes, Field(validation_alias=AliasChoices("outcomes", "fates"))] = (
        field(default_factory=Outcomes)
    )
    unreadable: tuple[dict[str, Any], ...] = ()
    ended_at: datetime | None = None
    server_id: str = ""
    error: str | None = None
    sent_records: int = 0
    checked_at: datetime | None = None
    refused: str | None = None
    status_before: Status | None = None
    last_completed_at: datetime | None = None
    begun: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, source: Named | str, server_id: str, *, fresh: bool, dry_run: bool = False
    ) -> ImportRecord:
        """Create the record of a new import of `source`."""
        now = datetime.now(UTC)
        return cls(
            import_id=f"{now:%Y%m%dT%H%M%S}-{os.urandom(4).hex()}",
            source=str(source),
            fresh=fresh,
            status=Status.PENDING,
            started_at=now,
            process_id=os.getpid(),
            dry_run=dry_run,
            server_id=server_id,
        )

    def ended(self, status: Status, error: str | None = None) -> ImportRecord:
        """Return the record of this attempt, which ends now."""
        now = datetime.now(UTC)
        is_complete = status is Status.COMPLETED
        completed_at = now if is_complete else self.last_completed_at
        return replace(
            self, status=status, error=error, ended_at=now, last_completed_at=completed_at
        )

    def after(self, last: ImportRecord | None) -> ImportRecord:
        """Return this record with what it says about the attempt before it, which has ended."""
        if last is None:
            return self
        failed = last.refused or last.status in RUNNING
        status = Status.FAILED if failed else last.status
        return replace(
            self,
            status_before=status,
            last_completed_at=last.completed_at,
            refused=None,
            begun=last._begun_by_now(last.server_id or self.server_id),
        )

    def _begun_by_now(self, server_id: str) -> dict[str, dict[str, str]]:
        if not (self.resumable and self.covered):
            return self.begun
        own = dict.fromkeys(self.covered, self.import_id)
        return self.begun | {server_id: self.begun.get(server_id, {}) | own}

    def finishing(self, partition_key: str) -> ImportRecord:
        """Return the record of an import that has finished a partition."""
        begun = dict(self.begun.get(self.server_id, {}))
        if begun.pop(partition_key, None) is None:
            return self
        return replace(self, begun=self.begun | {self.server_id: begun})

    @property
    def completed_at(self) -> datetime | None:
        """When an import last completed."""
        if self.status is Status.COMPLETED and self.last_completed_at is None:
            # Version 0.1.0 did not store when an import ended.
            return self.started_at + timedelta(seconds=self.elapsed_seconds)
        return self.last_completed_at

    @property
    def resumable(self) -> bool:
        """Whether it can be resumed: it began and did not complete."""
        return self.has_begun and self.status is not Status.COMPLETED and not self.dry_run

    @property
    def has_begun(self) -> bool:
        """Whether it was an import; a record can also say why the first one could not begin."""
        return bool(self.import_id)

    def is_of(self, source: Named | str, server_id: str) -> bool:
        """Whether it imports this source of this server."""
        return self.source == str(source) and self.server_id in {"", server_id}

    @property
    def has_begun_only(self) -> bool:
        """Whether nothing is stored about how it ended."""
        # Version 0.1.0 could publish an import and leave consuming to a later run.
        is_published_only = self.status is Status.PENDING and self.total_records > 0
        return self.status in RUNNING or is_published_only

    def summary(self) -> dict[str, Any]:
        """Return the figures that users see."""
        outcomes, total = self.outcomes, self.total_records
        import_seconds = self.elapsed_seconds - self.upgrade_seconds
        rate = outcomes.processed / import_seconds if import_seconds > 0 else 0.0
        left = total - outcomes.processed if self.status in RUNNING else 0
        progress_of_nothing = 100.0 if self.status is Status.COMPLETED else 0.0
        return {
            "status": self.status.value,
            "dry_run": self.dry_run,
            "import_id": self.import_id or None,
            "source": self.source,
            "server_id": self.server_id,
            # Rounded down: 100 means done.
            "progress": 1000 * outcomes.processed // total / 10 if total else progress_of_nothing,
            "total_records": total,
            "unchanged": self.unchanged,
            "pending": self.pending,
            "revised": outcomes.revised,
            "processed": outcomes.processed,
            "published": outcomes.published,
            "imported": outcomes.imported,
            "duplicates": {
                "stream": outcomes.duplicates_stream,
                "cache": outcomes.duplicates_cache,
                "database": outcomes.duplicates_database,
            },
            "rejected": outcomes.rejected,
            "errors": outcomes.errors,
            "unreadable": list(self.unreadable),
            "records_per_second": round(rate, 1),
            "elapsed_seconds": round(self.elapsed_seconds, 3),
            "upgrade_seconds": round(self.upgrade_seconds, 3),
            "estimated_remaining_seconds": round(left / rate, 1) if rate else 0.0,
            "start_time": _in_json(self.started_at),
            "end_time": _in_json(self.ended_at),
            "checked_time": _in_json(self.checked_at),
            "last_processed_id": self.last_processed_id,
            **({"error": self.error} if self.error else {}),
        }


def _in_json(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


# The summary before the first import.
PENDING_SUMMARY: Final[dict[str, Any]] = ImportRecord(
    "", "", fresh=False, status=Status.PENDING, started_at=datetime.min, process_id=0
).summary() | {"source": None, "server_id": None, "start_time": None}


_STORED: Final = TypeAdapter(ImportRecord)


def log_of(settings: Settings, lock: ImportLock | None = None) -> ImportLog:
    """Return the record of the server that the settings are of."""
    return ImportLog(settings.data_dir, settings.server, settings.own_ids, lock)


def unwritable(data_dir: Path, error: OSError) -> ConfigurationError:
    """Return the error for a data directory in which no lock can be made."""
    return ConfigurationError(
        f"cannot write to the data directory {data_dir}: {error.strerror}",
        hint="set PIPELINE_DATA_DIR to a directory that you can write to",
    )


def resumable_imports(settings: Settings) -> set[str]:
    """Return the ids of the last imports that can be resumed, of all servers.

    A server that is removed from the configuration file may come back.
    """
    found = set()
    followed = {file for one in settings.each_server for file in log_of(one).followed()}
    for file in {*settings.layout.import_records()} - followed:
        with suppress(OSError, ValidationError):
            record = _STORED.validate_json(file.read_bytes())
            if record.resumable:
                found.add(record.import_id)
    return found


class ImportLog:
    """The `import.json` of a data directory, written only by the holder of its lock.

    Args:
        data_dir: the data directory.
        server: the server of the configuration file; '' if it lists none.
        ids: the id of the server and its earlier ones: a record that is kept elsewhere, because
            the file or the id is new, is taken over.
        lock: the lock of the data directory; one object may be held by several imports in turn.
    """

    def __init__(
        self,
        data_dir: Path,
        server: str = "",
        ids: Sequence[str] = (),
        lock: ImportLock | None = None,
    ) -> None:
        self._layout = DataDir(data_dir, server)
        self._own_file = self._layout.import_record
        self._ids = ids
        self.server = server
        self.lock = lock or ImportLock(data_dir)

    @property
    def _file(self) -> Path:
        """Where the last record is: elsewhere only until the first import of this server."""
        if self._own_file.exists():
            return self._own_file
        return next(self._elsewhere(), self._own_file)

    def _elsewhere(self) -> Iterator[Path]:
        """Yield the records of this server that are kept elsewhere, the newest first."""
        found = [path for path in self._layout.import_records() if path != self._own_file]
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            with suppress(OSError, ValidationError):
                if _STORED.validate_json(path.read_bytes()).server_id in self._ids:
                    yield path

    def followed(self) -> Iterator[Path]:
        """Yield the records that are kept elsewhere and that another import has followed."""
        if self._own_file.exists():
            yield from self._elsewhere()

    @property
    def is_running(self) -> bool:
        """Whether an import of this server holds the lock."""
        holder = self.lock.holder()
        return holder is not None and bool(holder.source) and holder.server == self.server

    def read(self) -> ImportRecord | None:
        """Return the last import; if its process died, its status is failed.

        Raises:
            ConfigurationError: the file is not a valid record.
        """
        record = self._stored()
        if record is None or not record.has_begun_only:
            return record
        is_held, holder = self.lock.is_held(), self.lock.holder()
        if is_held and (holder is None or holder.server == self.server):
            is_stopping = self.lock.is_stopping()
            return replace(record, status=Status.STOPPING if is_stopping else Status.RUNNING)
        again = self._stored()  # it may have ended in between
        return self._killed(record) if again == record else again

    def last(self) -> ImportRecord | None:
        """Return the last import, which has failed also if the next one holds its lock already."""
        record = self.read()
        if record is None or record.status not in RUNNING or self.lock.has_recorded():
            return record
        again = self.read()  # it may have ended in between
        return self._killed(record) if again == record else again

    def _killed(self, record: ImportRecord) -> ImportRecord:
        cause = f"process {record.process_id} ended unexpectedly"
        return replace(record, status=Status.FAILED, error=record.error or cause)

    def _stored(self) -> ImportRecord | None:
        try:
            return _STORED.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            fault = error.errors()[0]
            cause = ": ".join([*map(str, fault["loc"]), fault["msg"]])
            raise ConfigurationError(
                f"cannot read the saved progress in {self._file}: {cause}",
                hint="run `tautulli-pipeline reset` to start over; the table is kept",
            ) from error

    def current(self) -> ImportRecord | None:
        """Return the running import, or the last; without figures while it copies its source."""
        record, holder = self.read(), self.lock.holder()
        if holder is None or not self.is_running or self.lock.has_recorded():
            return record
        return ImportRecord(
            "", holder.source, False, Status.RUNNING, holder.started_at, holder.process_id
        )

    def continue_or_begin(
        self, source: Named | str, server_id: str, *, fresh: bool
    ) -> ImportRecord:
        """Return the last import of `source` if it can be resumed, otherwise a new one."""
        last = self.read()
        if last and last.resumable and not fresh and last.is_of(source, server_id):
            return last.after(last)
        return ImportRecord.begin(source, server_id, fresh=fresh).after(last)

    def settle(self, import_id: str, outcomes: Outcomes) -> bool:
        """Record the settled rows of an import that no process is running any more.

        Returns:
            Whether this completed the import.
        """
        # If the lock is held, it is being resumed, and that process reads the same ledger.
        with suppress(Timeout), self.lock.hold(None):
            record = self.read()
            if record is None or record.import_id != import_id or not record.resumable:
                return False
            record = replace(record, outcomes=outcomes)
            if 0 < record.total_records <= outcomes.processed:
                record = record.ended(Status.COMPLETED)
            self.write(record)
            return record.status is Status.COMPLETED
        return False

    @contextmanager
    def noting_failure(self, source: Named | str = "", server_id: str = "") -> Iterator[None]:
        """Note in the record of the last import that an attempt cannot begin.

        If there is no record, one is made only for a server of the configuration file: others
        leave no files behind.
        """
        try:
            yield
        except Exception as error:
            with suppress(OSError):
                last = self.read()
                if last is None and self.server and not isinstance(error, StoppedError):
                    began = ImportRecord.begin(source, server_id, fresh=False)
                    last = replace(began, import_id="")
                if last is not None:
                    self.write(replace(last, refused=in_one_line(error)))
            raise

    def write(self, record: ImportRecord) -> None:
        """Replace the record atomically."""
        self._layout.make_folder()
        write_atomically(self._own_file, orjson.dumps(asdict(record)))

    def exists(self) -> bool:
        """Whether there is a record, readable or not."""
        return self._file.exists()

    def remove(self) -> None:
        """Forget the last import."""
        for file in (*self._elsewhere(), self._own_file):
            file.unlink(missing_ok=True)

    @contextmanager
    def exclusive(self, source: Named | None) -> Iterator[Claim]:
        """Hold the lock as the only import; without a source, only block other imports.

        Raises:
            ImportRunningError: another import is running; the message contains its progress.
            ConfigurationError: the data directory is not writable.
        """
        with ExitStack() as stack:
            try:
                claim = stack.enter_context(self.lock.hold(source, self.server))
            except Timeout:
                raise self.running() from None
            except OSError as error:
                raise unwritable(self._layout.path, error) from error
            yield claim

    def running(self) -> ImportRunningError:
        """Return the error for a running import, with its progress."""
        holder = self.lock.holder()
        if holder is not None and holder.server != self.server:
            return ImportLog(self._layout.path, holder.server).running()
        if holder is not None and not holder.source:
            return ImportRunningError(
                f"the progress of {self._layout.path} is being reset",
                hint="import again in a moment",
            )
        record = self.current()
        if record is None or holder is None:
            return ImportRunningError(
                f"another import into {self._layout.path} is just beginning or ending",
                hint="import again in a moment",
            )
        summary = record.summary()
        doing = "stopping" if record.status is Status.STOPPING else "running"
        return ImportRunningError(
            f"an import of {record.source} is already {doing} "
            f"(process {record.process_id}, {summary['progress']} %, "
            f"{summary['processed']:,} of {summary['total_records']:,} plays)",
            hint="wait for it (see `tautulli-pipeline status`) or run `tautulli-pipeline stop`",
            progress=summary,
        )
