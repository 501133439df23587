"""The `status` and `health` commands, and the summary of an import."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from tautulli_pipeline.analytics.summary import read_summary
from tautulli_pipeline.cli.lines import print_commands, print_line, program
from tautulli_pipeline.cli.progress import time_left
from tautulli_pipeline.cli.reporting import print_counts, print_json
from tautulli_pipeline.cli.tables import print_fields
from tautulli_pipeline.configuration import is_address
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.health import in_utc, last_completed_at
from tautulli_pipeline.imports.overview import summary_of, summary_of_server
from tautulli_pipeline.imports.record import RUNNING, ImportRecord, Outcomes, log_of
from tautulli_pipeline.imports.results import counts_of, counts_outside, headline
from tautulli_pipeline.printable import time_in_words
from tautulli_pipeline.settings import Settings


def show_status(settings: Settings, *, as_json: bool) -> None:
    """Print the saved progress, without opening the warehouse."""
    if as_json:
        print_json(summary_of(settings))
        return
    if settings.has_servers:
        _show_servers(settings)
        return
    record = log_of(settings).current() if settings.data_dir.is_dir() else None
    if record is None:
        print_line(_without_record(settings))
    else:
        print_found(settings.layout)
        print_fields(
            {
                "status": record.status.value,
                "database": record.source,
                "server": record.server_id or None,
                "started": record.started_at,
                "ended": record.ended_at,
                "nothing new at": record.checked_at,
                "corrections up to": _downloaded_at(settings, record),
            }
        )
        print_summary(record, settings.warehouse_path)


def print_found(layout: DataDir, environment: str = "") -> None:
    """Print what all imports together have found, and where to look.

    Args:
        layout: the data directory.
        environment: variables to set for the commands that are named.
    """
    summary = read_summary(layout)
    if summary is not None:
        command = f"{environment}{program()}"
        print_line(summary.sentence)
        print_commands(
            {
                "charts": f"{command} report --open",
                "Dagster's UI": f"{command} up",
                "SQL": f"{command} query 'SHOW TABLES'",
            }
        )


def show_health(settings: Settings, max_age_hours: float | None, *, as_json: bool) -> None:
    """Print when the last import completed.

    Raises:
        PipelineError: it did not complete, or too long ago.
    """
    completed_at = last_completed_at(settings, max_age_hours)
    if as_json:
        print_json({"healthy": True, "last_completed_at": in_utc(completed_at)})
    else:
        which = "the oldest of the last imports" if settings.has_servers else "the last import"
        print_line(f"{which} completed at {time_in_words(completed_at)}")


def _show_servers(settings: Settings) -> None:
    """Print a line for each server."""
    for one in settings.each_server:
        record = log_of(one).current()
        facts = summary_of_server(one, record)
        words = [facts["error"] or _in_short(record), *_times(record, failed=bool(facts["error"]))]
        print_line(f"{one.server}: {facts['status']}: {'; '.join(words)}", hanging="  ")
    print_line(f"the plays are in the table playback_events of {settings.warehouse_path}")
    print_found(settings.layout)


def _times(record: ImportRecord | None, *, failed: bool) -> Iterator[str]:
    """Yield when the last import of a server ended, or one before it if that failed."""
    if record is None or record.status in RUNNING:
        return
    if not failed and record.ended_at:
        yield f"ended {time_in_words(record.ended_at)}"
    if not failed and record.checked_at:
        yield f"nothing new since, at {time_in_words(record.checked_at)}"
    if failed and record.completed_at:
        yield f"last completed {time_in_words(record.completed_at)}"


def _in_short(record: ImportRecord | None) -> str:
    if record is None:
        return "nothing has been imported yet"
    if record.status in RUNNING:
        return _progress(record).removeprefix(f"{record.status}: ")
    return headline(record)


def _without_record(settings: Settings) -> str:
    if settings.warehouse_path.exists():
        return f"no progress is saved in {settings.data_dir}: the next import reads every play"
    return f"nothing has been imported into {settings.data_dir} yet"


def print_summary(record: ImportRecord, warehouse: Path) -> None:
    """Print what an import did: a sentence, the counts that are not zero, and where to look."""
    outcomes = record.outcomes
    print_line(_progress(record) if record.status in RUNNING else headline(record))
    counts, outside = counts_of(record), counts_outside(record)
    if outcomes.processed and (len(counts) > 1 or outside):
        print_counts(counts, {"plays in this import": record.total_records}, outside)
    print_where_to_look([outcomes])
    print_line(f"the plays are in the table playback_events of {warehouse}")


def print_where_to_look(found: Collection[Outcomes]) -> None:
    """Print how to list duplicates and rejected plays, if there are any; repeats have no row."""
    if any(one.logged for one in found):
        print_line(f"list the duplicates with `{program()} duplicates list`")
    if any(one.rejected for one in found):
        print_line(f"list the rejected plays with `{program()} dead-letters list`")


def _downloaded_at(settings: Settings, record: ImportRecord) -> datetime | None:
    """Return when the database of a running Tautulli was downloaded: later edits are not here."""
    if not is_address(record.source):
        return None
    from tautulli_pipeline.imports.survey_cache import downloaded_at

    return downloaded_at(settings.layout)


def _progress(record: ImportRecord) -> str:
    summary = record.summary()
    speed = f"{summary['records_per_second']:,.0f} plays/s"
    return f"{record.status}: {summary['progress']} %, {speed}, {time_left(summary)} left"
