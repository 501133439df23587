"""Dagster's SQLite storage: it keeps event log files open, and its folder can have any name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Final, cast

import dagster as dg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.event_api import EventHandlerFn
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage import sql
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
)
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, SqliteStorageConfig
from dagster._serdes import ConfigurableClassData
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import NullPool
from watchdog.events import EVENT_TYPE_MODIFIED, FileSystemEvent
from watchdog.observers.api import BaseObserver

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS

_REPOSITORY: Final = RemoteRepositoryOrigin(
    RegisteredCodeLocationOrigin("tautulli_pipeline.definitions"), "__repository__"
)
_OPEN_FILES: Final = 4
_TABLES: Final = """
    SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
    ORDER BY type = 'index'
"""
_BUSY_TIMEOUT_SECONDS: Final = 30


def database_url(folder: str, name: str) -> str:
    """Return SQLAlchemy's URL of a database file, for any path.

    The path is a `file:` URI, which SQLite decodes: some versions of SQLAlchemy end a plain
    path at `?`, and others decode `%`.
    """
    uri = Path(folder, f"{name}.db").absolute().as_uri()
    return URL.create("sqlite", database=uri, query={"uri": "true"}).render_as_string()


def _read_once(read: Callable[[Config], ScriptDirectory]) -> Callable[[Config], ScriptDirectory]:
    """Remember the migrations in each folder, which are 89 Python files."""
    known: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in known:
            known[folder] = read(config)
        return known[folder]

    return from_config


# Dagster reads them again for each file that it opens, twice for a new one.
for _module in (sql, command):
    vars(_module)["ScriptDirectory"] = SimpleNamespace(
        from_config=_read_once(ScriptDirectory.from_config)
    )
# Dagster puts paths into URLs as they are, in these three modules.
for _module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    vars(_module)["create_db_conn_string"] = database_url


@contextmanager
def _synced_when_created(base_dir: Path) -> Iterator[None]:
    """Create new files without a sync for each of their 58 statements, and sync them at the end."""
    if DataDir(base_dir).history_index.exists():
        yield
        return
    event.listen(Engine, "connect", _sync_later)
    try:
        yield
    finally:
        event.remove(Engine, "connect", _sync_later)
    for file in (*base_dir.glob("history/**/*.db"), *base_dir.glob("schedules/*.db")):
        with file.open() as created:
            os.fsync(created.fileno())


class _Watchdog(SqliteEventLogStorageWatchdog):
    """Passes new events to the page of a run, also while they are in the write-ahead log."""

    def dispatch(self, event: FileSystemEvent) -> None:
        """Read the event log if one of its files was written."""
        written = event.event_type == EVENT_TYPE_MODIFIED
        if written and event.src_path in {self._log_path, f"{self._log_path}-wal"}:
            self._process_log()


class OpenEventLog(SqliteEventLogStorage):
    """An event log that keeps the most recently used files open.

    The base class opens a new connection for each event, and SQLite checkpoints and deletes
    the write-ahead log whenever the last connection closes. Measured, that takes 7.6 ms of
    CPU per materialization instead of 1.8 ms, and several waits for the disk. If a power
    failure loses an event, its partition is published again.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                if shard != INDEX_SHARD_NAME:
                    self._create_like_index(Path(self.path_for_shard(shard)))
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                connect_args={"timeout": _BUSY_TIMEOUT_SECONDS},
            )
            event.listen(engine, "connect", _sync_at_checkpoints)
        self._engines[shard] = engine
        while len(self._engines) > _OPEN_FILES:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def _create_like_index(self, file: Path) -> None:
        """Create the file of a run, in one transaction.

        Dagster runs and syncs 21 statements for the same tables, which takes 0.1 s.
        """
        if file.exists():
            return
        with self._engine(INDEX_SHARD_NAME).connect() as index:
            tables = index.exec_driver_sql(_TABLES).scalars().all()
            sql = "SELECT version_num FROM alembic_version"
            versions = [tuple(row) for row in index.exec_driver_sql(sql)]
        if not versions:
            return
        with TemporaryDirectory(dir=file.parent) as folder:
            url = database_url(folder, file.stem)
            engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                for statement in ("BEGIN", *tables):
                    connection.exec_driver_sql(statement)
                connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", versions)
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            with suppress(OSError):  # another process has created it, or Dagster will do it
                os.link(Path(folder, file.name), file)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; Dagster asks this for each event."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Call `callback` for each event of a run that follows `cursor`, until it ends."""
        super().watch(run_id, cursor, callback)
        observer = cast("BaseObserver", self._obs)
        replaced, watch = self._watchers[run_id][callback]
        watchdog = _Watchdog(self, run_id, callback, cursor)
        observer.add_handler_for_watch(watchdog, watch)
        observer.remove_handler_for_watch(replaced, watch)
        self._watchers[run_id][callback] = (watchdog, watch)

    def wipe(self) -> None:
        """Delete all events. Open files are closed first."""
        self._close()
        self._tables.clear()
        super().wipe()

    def dispose(self) -> None:
        """Close all files."""
        self._close()
        super().dispose()

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


class OwnedRuns(SqliteRunStorage):
    """Runs that all belong to the pipeline's code location, also those of the command line.

    Dagster's timeline shows only runs with the origin of a code location. The file is kept open;
    the base class creates an engine for each of the 40 statements of a run.
    """

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(conn_string, inst_data)
        self._engine = create_engine(conn_string, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS})

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Begin a transaction."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def add_run(self, dagster_run: dg.DagsterRun) -> dg.DagsterRun:
        """Store a new run."""
        if COMMAND_LINE_TAGS.keys() <= dagster_run.tags.keys():
            origin = RemoteJobOrigin(_REPOSITORY, dagster_run.job_name)
            dagster_run = dagster_run._replace(remote_job_origin=origin)
        return super().add_run(dagster_run)


class PipelineStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite files under `base_dir`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        with _synced_when_created(Path(base_dir)):
            super().__init__(base_dir, inst_data)
            self._run_storage = OwnedRuns.from_local(str(Path(base_dir, "history", "")))
            self._event_log_storage = OpenEventLog(str(Path(base_dir, "history", "runs", "")))

    @classmethod
    def from_config_value(  # type: ignore[override] # as in the base class
        cls, inst_data: ConfigurableClassData, config_value: SqliteStorageConfig
    ) -> PipelineStorage:
        """Create the storage from the `storage` section of dagster.yaml."""
        return cls.from_local(inst_data=inst_data, **config_value)


def _sync_at_checkpoints(connection: DBAPIConnection, _record: object) -> None:
    _execute(connection, "PRAGMA synchronous = NORMAL")


def _sync_later(connection: DBAPIConnection, _record: object) -> None:
    _execute(connection, "PRAGMA synchronous = OFF")


def _execute(connection: DBAPIConnection, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()
