"""The `import` and `demo` commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tautulli_pipeline.cli.lines import print_line, print_notice, program
from tautulli_pipeline.cli.options import database_path
from tautulli_pipeline.cli.progress import ProgressView, open_progress
from tautulli_pipeline.cli.reporting import print_json, report_unreadable
from tautulli_pipeline.cli.status import print_found, print_summary
from tautulli_pipeline.errors import AnalyticsError
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.known_warehouse import require_known_version
from tautulli_pipeline.imports.record import ImportRecord, log_of
from tautulli_pipeline.imports.repeats import repeated
from tautulli_pipeline.imports.sources import servers_of
from tautulli_pipeline.imports.stopping import Stop, import_stop
from tautulli_pipeline.memory import loading_modules
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, Settings
from tautulli_pipeline.source.address import Source


@dataclass(frozen=True)
class Wanted:
    """What an `import` command asks for.

    Attributes:
        source: the database that it names instead of the configured one.
        fresh: cover every partition, including finished ones.
        salvage: import what is readable in a damaged file.
        wait_seconds: how long to wait while another program holds the warehouse.
    """

    source: Path | str | None = None
    fresh: bool = False
    salvage: bool = False
    wait_seconds: float = WAREHOUSE_WAIT_SECONDS

    @property
    def everything(self) -> bool:
        """Whether to look at everything, even if nothing seems to be new."""
        return self.fresh or self.salvage


def run_import(
    settings: Settings,
    wanted: Wanted,
    *,
    server: str | None = None,
    dry_run: bool = False,
    as_json: bool,
    environment: str = "",
) -> None:
    """Import a database or those of all servers; show progress and the result.

    Progress is on standard error, the result on standard output. `environment` has the variables
    that other commands need to find the same data directory.
    """
    began_at = time.monotonic()
    chosen = servers_of(settings, server, wanted.source)
    require_known_version(settings)
    if settings.has_servers:
        from tautulli_pipeline.cli.servers import run_dry_runs, run_imports

        if dry_run:
            run_dry_runs(chosen, wanted, as_json=as_json)
        else:
            run_imports(settings, chosen, wanted, as_json=as_json, began_at=began_at)
        return
    path = database_path(settings, wanted.source)
    if dry_run:
        from tautulli_pipeline.cli.validating import run_dry_run

        run_dry_run(settings, path, salvaging=wanted.salvage, as_json=as_json)
        return
    require_no_other_import(settings)
    if not wanted.everything and (record := _repeated(settings, path, began_at)):
        _print_result(record, settings, as_json=as_json)
        print_what_was_found(settings, environment, as_json=as_json)
        return
    with loading_modules():
        from tautulli_pipeline.imports.consumer_client import spawned_consumer

    stop = import_stop()
    with stop.heard(), open_progress(sys.stderr) as progress, spawned_consumer() as consumer:
        record, unbuilt = import_one(
            settings,
            wanted,
            source=path,
            consumer=consumer,
            progress=progress,
            stop=stop,
            began_at=began_at,
        )
    report_unreadable(record.unreadable)
    warn_of(unbuilt)
    _print_result(record, settings, as_json=as_json)
    if unbuilt is None:
        print_what_was_found(settings, environment, as_json=as_json)


def _repeated(settings: Settings, path: Source, began_at: float) -> ImportRecord | None:
    """Return the record of an import that has nothing to do; None if it may have."""
    from tautulli_pipeline.analytics.inputs import is_current, request_for

    if not is_current(request_for(settings)):
        return None
    server_id = settings.import_server_id
    return repeated(settings, path, server_id, began_at=began_at, say=print_notice)


def _print_result(record: ImportRecord, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        print_json(record.summary())
    else:
        print_summary(record, settings.warehouse_path)


def print_what_was_found(settings: Settings, environment: str = "", *, as_json: bool) -> None:
    """Print what all imports have found, in a text answer."""
    if not as_json:
        print_found(settings.layout, environment)


def import_one(
    settings: Settings,
    wanted: Wanted,
    *,
    source: Source,
    consumer: subprocess.Popen[bytes],
    progress: ProgressView,
    stop: Stop,
    began_at: float,
    lock: ImportLock | None = None,
) -> tuple[ImportRecord, AnalyticsError | None]:
    """Import one source.

    Args:
        settings: of its server.
        wanted: what the command asks for.
        source: the source.
        consumer: a consumer that is waiting for its orders.
        progress: shows the progress.
        stop: ends the import.
        began_at: when the user began to wait, by `time.monotonic`.
        lock: the lock, if it is held for several imports in turn; the analytics are built after
            the last one.

    Returns:
        The record, and why the analytics could not be built.
    """
    # This takes half a second to load. The consumer process loads at the same time.
    with loading_modules():
        from tautulli_pipeline.imports.coordinator import ImportRequest, open_import

    request = ImportRequest(
        source,
        settings.import_server_id,
        fresh=wanted.fresh,
        salvage=wanted.salvage,
        wait_seconds=wanted.wait_seconds,
    )
    # A source that cannot be read does not need Dagster, which loads while the stream starts.
    loading = threading.Thread(target=_load_dagster, name="load-dagster", daemon=True)
    with open_import(
        settings,
        request,
        consumer,
        show=progress.show,
        on_copied=progress.show_copied,
        on_upgraded=progress.show_upgraded,
        on_readable=loading.start,
        say=progress.say,
        stop=stop,
        began_at=began_at,
        lock=lock,
    ) as opened:
        loading.join()
        from tautulli_pipeline.orchestration.command_line import import_by_jobs

        unbuilt = import_by_jobs(opened, settings, stop, builds=lock is None)
    return opened.record, unbuilt


def _load_dagster() -> None:
    with loading_modules(), suppress(ImportError):  # the main thread raises it
        import_module("tautulli_pipeline.orchestration.command_line")


def warn_of(unbuilt: AnalyticsError | None) -> None:
    """Print why the analytics could not be built."""
    if unbuilt is not None:
        print_notice(f"warning: {unbuilt.message}; {unbuilt.hint}")


def run_demo(settings: Settings, rows: int, *, as_json: bool) -> None:
    """Create a sample database of `rows` plays and import it."""
    from tempfile import TemporaryDirectory

    from tautulli_pipeline.data_dir.directory import explained_faults, make_data_dir
    from tautulli_pipeline.demo.database import make_demo_database

    require_no_other_import(settings)
    require_known_version(settings)
    make_data_dir(settings)
    path = settings.data_dir / f"demo-{rows}.db"
    if not path.exists():
        print_notice(f"creating {path} with {rows:,} plays")
        # A folder of its own, because another process may make the same database.
        with (
            explained_faults(settings.data_dir),
            TemporaryDirectory(prefix="demo-", dir=settings.data_dir) as folder,
        ):
            unfinished = Path(folder, path.name)
            make_demo_database(unfinished, rows)
            unfinished.replace(path)
    environment = f"PIPELINE_DATA_DIR={shlex.quote(os.path.relpath(settings.data_dir))} "
    run_import(settings, Wanted(path), as_json=as_json, environment=environment)
    if not as_json:
        print_line(f"import your own plays with `{program()} import /path/to/tautulli.db`")


def require_no_other_import(settings: Settings) -> None:
    """Raise early if another import is running, before loading everything else."""
    log = log_of(settings)
    holder = log.lock.holder()
    if holder is not None and holder.source:
        raise log.running()
