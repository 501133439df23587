"""The `import` and `demo` commands."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.options import database_path
from tautulli_pipeline.cli.progress import open_progress
from tautulli_pipeline.cli.reporting import print_json, report_unreadable
from tautulli_pipeline.cli.status import print_found, print_summary
from tautulli_pipeline.imports.record import ImportLog, ImportRecord
from tautulli_pipeline.imports.repeats import repeated
from tautulli_pipeline.imports.stopping import import_stop
from tautulli_pipeline.memory import loading_modules
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, Settings
from tautulli_pipeline.source.address import Source


def run_import(
    settings: Settings,
    database: Path | str | None,
    *,
    as_json: bool,
    dry_run: bool = False,
    fresh: bool = False,
    salvage: bool = False,
    wait_seconds: float = WAREHOUSE_WAIT_SECONDS,
    environment: str = "",
) -> None:
    """Import `database`; show progress on standard error and the result on standard output.

    `environment` has the variables that other commands need to find the same data directory.
    """
    began_at = time.monotonic()
    path = database_path(settings, database)
    if dry_run:
        from tautulli_pipeline.cli.validating import run_dry_run

        run_dry_run(settings, path, salvaging=salvage, as_json=as_json)
        return
    _require_no_other_import(settings)
    if not (fresh or salvage) and (record := _repeated(settings, path, began_at)):
        _print_result(record, settings, as_json=as_json)
        _print_found(settings, environment, as_json=as_json)
        return
    from tautulli_pipeline.imports.consumer_client import spawned_consumer

    stop = import_stop()
    with stop.heard(), open_progress(sys.stderr) as progress, spawned_consumer() as consumer:
        # This takes half a second to load. The consumer process loads at the same time.
        with loading_modules():
            from tautulli_pipeline.imports.coordinator import ImportRequest, open_import

        request = ImportRequest(
            path,
            settings.import_server_id,
            fresh=fresh,
            salvage=salvage,
            wait_seconds=wait_seconds,
        )
        with open_import(
            settings,
            request,
            consumer,
            show=progress.show,
            on_copied=progress.show_copied,
            say=progress.say,
            stop=stop,
            began_at=began_at,
        ) as opened:
            # Dagster takes seconds to load, and a source that cannot be read does not need it.
            with loading_modules():
                from tautulli_pipeline.orchestration.command_line import import_by_jobs

            unbuilt = import_by_jobs(opened, settings, stop)
        record = opened.record
    report_unreadable(record.unreadable)
    if unbuilt is not None:
        print_notice(f"warning: {unbuilt.message}; {unbuilt.hint}")
    _print_result(record, settings, as_json=as_json)
    if unbuilt is None:
        _print_found(settings, environment, as_json=as_json)


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


def _print_found(settings: Settings, environment: str, *, as_json: bool) -> None:
    if not as_json:
        print_found(settings.layout, environment)


def run_demo(settings: Settings, rows: int, *, as_json: bool) -> None:
    """Create a sample database of `rows` plays and import it."""
    from tautulli_pipeline.data_dir.directory import explained_faults, make_data_dir
    from tautulli_pipeline.demo.database import make_demo_database

    _require_no_other_import(settings)
    make_data_dir(settings)
    path = settings.data_dir / f"demo-{rows}.db"
    if not path.exists():
        print_notice(f"creating {path} with {rows:,} plays")
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with explained_faults(settings.data_dir):
            make_demo_database(unfinished, rows)
        unfinished.replace(path)
    environment = f"PIPELINE_DATA_DIR={shlex.quote(os.path.relpath(settings.data_dir))} "
    run_import(settings, path, as_json=as_json, environment=environment)
    if not as_json:
        print_line("import your own plays with `tautulli-pipeline import /path/to/tautulli.db`")


def _require_no_other_import(settings: Settings) -> None:
    """Raise early if another import is running, before loading everything else."""
    log = ImportLog(settings.data_dir)
    holder = log.lock.holder()
    if holder is not None and holder.source:
        raise log.running()
