"""Importing the servers of the configuration file one after the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from filelock import Timeout

from tautulli_pipeline.cli.importing import Wanted, import_one, require_no_other_import, warn_of
from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.options import database_path
from tautulli_pipeline.cli.progress import ProgressView, open_progress
from tautulli_pipeline.cli.reporting import print_json, report_unreadable
from tautulli_pipeline.cli.status import print_found, print_where_to_look
from tautulli_pipeline.data_dir.directory import data_directory
from tautulli_pipeline.errors import (
    AnalyticsError,
    ConfigurationError,
    PipelineError,
    StoppedError,
    WarehouseHeldError,
    in_one_line,
)
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.overview import summary_of_server, together
from tautulli_pipeline.imports.record import ImportRecord, log_of, unwritable
from tautulli_pipeline.imports.repeats import repeated, still_remembered
from tautulli_pipeline.imports.results import counts_of, headline, in_short
from tautulli_pipeline.imports.stopping import import_stop
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Source


@dataclass
class _Attempts:
    """What became of each server that was tried, in order.

    Attributes:
        failures: the errors by server.
        is_stopped: whether the whole command was asked to stop.
    """

    chosen: Sequence[Settings]
    records: dict[str, ImportRecord] = field(default_factory=dict)
    failures: dict[str, PipelineError] = field(default_factory=dict)
    is_stopped: bool = False

    def run(self, settings: Settings, attempt: Callable[[], ImportRecord]) -> None:
        """Try one server; an error does not keep the others from being tried."""
        server = settings.server
        try:
            self.records[server] = attempt()
        except PipelineError as error:
            self.failures[server] = error
        except Exception as error:  # the outermost boundary of one server
            unexpected = PipelineError(in_one_line(error), hint="see --debug and the logs")
            unexpected.__cause__ = error
            self.failures[server] = unexpected

    @property
    def tried(self) -> list[Settings]:
        """The servers that were tried."""
        ids = self.records.keys() | self.failures.keys()
        return [one for one in self.chosen if one.server in ids]

    def in_short(self, settings: Settings) -> str:
        """Return what became of a server, for a line of the progress."""
        if record := self.records.get(settings.server):
            return in_short(record)
        is_stopped = isinstance(self.failures[settings.server], StoppedError)
        return "stopped" if is_stopped else "failed"

    def summaries(self) -> list[dict[str, Any]]:
        """Return the summary of each server; those that were not tried are pending."""
        found = []
        for settings in self.chosen:
            failure = self.failures.get(settings.server)
            is_stopped = isinstance(failure, StoppedError)
            error = in_one_line(failure) if failure and not is_stopped else None
            found.append(summary_of_server(settings, self._record_of(settings), error))
        return found

    def _record_of(self, settings: Settings) -> ImportRecord | None:
        """Return the record of an attempt; None if it did not begin: the last one is older."""
        server = settings.server
        if server not in self.failures or server in self.records:
            return self.records.get(server)
        try:
            last = log_of(settings).read()
        except ConfigurationError:  # a damaged record
            return None
        return None if last is None or last.refused else last

    def raise_first(self, facts: dict[str, Any]) -> None:
        """Raise the error of the first server that failed; report the others."""
        failed = [one.server for one in self.chosen if one.server in self.failures]
        if not failed:
            return
        for server in failed[1:]:
            print_notice(f"{server}: {in_one_line(self.failures[server])}")
        first = self.failures[failed[0]]
        first.message = f"{failed[0]}: {first.message}"
        first.more = facts
        raise first


def run_imports(
    settings: Settings,
    chosen: Sequence[Settings],
    wanted: Wanted,
    *,
    as_json: bool,
    began_at: float,
) -> None:
    """Import these servers in order; every one is tried.

    Raises:
        PipelineError: that of the first server that failed.
    """
    require_no_other_import(settings)
    attempts = _Attempts(chosen)
    with data_directory(settings, print_notice):
        with _kept_lock(settings) as lock:
            unbuilt = _import_each(settings, wanted, attempts, lock, began_at)
        warn_of(unbuilt)
        facts = together(attempts.summaries())
        if not as_json:
            _print_records(settings, attempts)
            if unbuilt is None:
                print_found(settings.layout)
        attempts.raise_first(facts)
    if as_json:
        print_json(facts)


def _import_each(
    settings: Settings, wanted: Wanted, attempts: _Attempts, lock: ImportLock, began_at: float
) -> AnalyticsError | None:
    """Try each server, and build the analytics once; return why they could not be built."""
    with open_progress(sys.stderr, by_server=True) as progress:
        for one in attempts.chosen:
            progress.of_server(one.server)
            _import(one, wanted, attempts, progress=progress, lock=lock, began_at=began_at)
            progress.end_line(attempts.in_short(one), is_done=one.server in attempts.records)
            if attempts.is_stopped:
                return None
            began_at = time.monotonic()
            if isinstance(attempts.failures.get(one.server), WarehouseHeldError):
                wanted = replace(wanted, wait_seconds=0)  # it has been waited for already
        return _build(settings) if attempts.records else None


def _print_records(settings: Settings, attempts: _Attempts) -> None:
    """Print a line for each server that was tried; errors follow on standard error."""
    for one in attempts.tried:
        record = attempts.records.get(one.server)
        words = _result(record) if record else attempts.in_short(one)
        print_line(f"{one.server}: {words}", hanging="  ")
    print_where_to_look([record.outcomes for record in attempts.records.values()])
    if attempts.records:
        print_line(f"the plays are in the table playback_events of {settings.warehouse_path}")


def _result(record: ImportRecord) -> str:
    report_unreadable(record.unreadable)
    counts = counts_of(record)
    del counts["imported"]
    return "; ".join([headline(record), *(f"{count:,} {name}" for name, count in counts.items())])


@contextmanager
def _kept_lock(settings: Settings) -> Iterator[ImportLock]:
    """Hold the lock for all servers."""
    lock = ImportLock(settings.data_dir)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock.kept())
        except Timeout:
            raise log_of(settings).running() from None
        except OSError as error:
            raise unwritable(settings.data_dir, error) from error
        yield lock


def _import(
    settings: Settings,
    wanted: Wanted,
    attempts: _Attempts,
    *,
    progress: ProgressView,
    lock: ImportLock,
    began_at: float,
) -> None:
    stop = import_stop()

    def attempt() -> ImportRecord:
        source = database_path(settings, wanted.source)
        with stop.heard():
            if not wanted.everything and (record := look(source)):
                return record
            return import_all_of(source)

    def look(source: Source) -> ImportRecord | None:
        with stop.interruptible():
            return repeated(
                settings,
                source,
                settings.import_server_id,
                began_at=began_at,
                say=progress.say,
                lock=lock,
            )

    def import_all_of(source: Source) -> ImportRecord:
        from tautulli_pipeline.imports.consumer_client import spawned_consumer

        with spawned_consumer() as consumer:
            record, _ = import_one(
                settings,
                wanted,
                source=source,
                consumer=consumer,
                progress=progress,
                stop=stop,
                began_at=began_at,
                lock=lock,
            )
        return record

    attempts.run(settings, attempt)
    attempts.is_stopped = stop.is_requested and not stop.is_for_one


def _build(settings: Settings) -> AnalyticsError | None:
    """Build the analytics of all servers, unless they are current."""
    from tautulli_pipeline.analytics.inputs import is_current, request_for

    if is_current(request_for(settings)):
        return None
    from tautulli_pipeline.orchestration.command_line import build_by_job

    stop = import_stop()
    with stop.heard(), still_remembered(settings):
        return build_by_job(settings, stop)


def run_dry_runs(chosen: Sequence[Settings], wanted: Wanted, *, as_json: bool) -> None:
    """Report the outcome counts of an import of each of these servers.

    Raises:
        PipelineError: that of the first server whose database cannot be read.
    """
    from tautulli_pipeline.cli.validating import as_record, find, print_outcomes

    attempts = _Attempts(chosen)
    compared: dict[str, dict[str, Any]] = {}
    for settings in chosen:

        def attempt(settings: Settings = settings) -> ImportRecord:
            began_at = time.monotonic()
            path = database_path(settings, wanted.source)
            findings = find(settings, path, salvaging=wanted.salvage)
            report_unreadable(findings.unreadable)
            if not as_json:
                print_line(f"{settings.server}:")
                print_outcomes(findings)
            compared[settings.server] = asdict(findings.warehouse)
            return as_record(findings, settings.server, time.monotonic() - began_at)

        attempts.run(settings, attempt)
        failure = attempts.failures.get(settings.server)
        if failure and not as_json:
            print_line(f"{settings.server}: {attempts.in_short(settings)}")
        if isinstance(failure, StoppedError):
            break
    facts = together([one | {"warehouse": compared.get(one["id"])} for one in attempts.summaries()])
    attempts.raise_first(facts)
    if as_json:
        print_json(facts)
