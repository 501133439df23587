"""The `validate` command and `import --dry-run`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from tautulli_pipeline.cli.lines import print_line
from tautulli_pipeline.cli.options import database_path
from tautulli_pipeline.cli.progress import open_progress
from tautulli_pipeline.cli.reporting import print_counts, print_json, report_unreadable
from tautulli_pipeline.cli.tables import print_fields
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.known_warehouse import require_known_version
from tautulli_pipeline.imports.record import ImportRecord, Outcomes, Status
from tautulli_pipeline.imports.sources import servers_of
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.imports.validation import Findings, validate
from tautulli_pipeline.printable import time_in_words
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Source
from tautulli_pipeline.source.opening import open_source

_NAMES_SHOWN: Final = 8


def run_validate(
    settings: Settings, database: Path | str | None, *, server: str | None, as_json: bool
) -> None:
    """Report what `database` contains and what an import of it would do."""
    chosen = servers_of(settings, server, database)
    if len(chosen) > 1:
        ids = ", ".join(one.server for one in chosen)
        raise ConfigurationError("no server given", hint=f"name one of {ids} with --server")
    settings = chosen[0]
    require_known_version(settings)
    findings = find(settings, database_path(settings, database))
    if as_json:
        print_json(findings.facts())
    else:
        _print_source(findings)
        print_outcomes(findings)


def run_dry_run(settings: Settings, path: Source, *, salvaging: bool, as_json: bool) -> None:
    """Report the outcome counts of an import of the database at `path`."""
    began_at = time.monotonic()
    findings = find(settings, path, salvaging=salvaging)
    report_unreadable(findings.unreadable)
    if as_json:
        elapsed_seconds = time.monotonic() - began_at
        record = as_record(findings, settings.import_server_id, elapsed_seconds)
        print_json(record.summary() | {"warehouse": asdict(findings.warehouse)})
    else:
        print_outcomes(findings)


def find(settings: Settings, path: Source, *, salvaging: bool = False) -> Findings:
    """Predict the outcome of every play of a source."""
    stop = Stop("stopped; nothing was written")
    with (
        stop.heard(),
        stop.interruptible(),
        open_progress(sys.stderr) as progress,
        open_source(
            path,
            settings.layout.snapshots,
            salvaging=salvaging,
            on_copied=progress.show_copied,
        ) as source,
    ):
        return validate(source, settings, progress.show_read)


def as_record(findings: Findings, server_id: str, elapsed_seconds: float) -> ImportRecord:
    """Return the findings as the record of a dry run."""
    return replace(
        ImportRecord.begin(findings.source, server_id, fresh=False, dry_run=True),
        status=Status.COMPLETED,
        total_records=findings.total_records,
        last_processed_id=findings.last_row_id,
        elapsed_seconds=elapsed_seconds,
        outcomes=Outcomes(
            imported=findings.new,
            duplicates_database=sum(findings.duplicates.values()),
            rejected=findings.rejected,
            errors=findings.errors,
        ),
        unreadable=findings.unreadable,
    )


def _print_source(findings: Findings) -> None:
    print_line(f"{findings.source}")
    span = "none"
    if findings.first_started_at and findings.last_started_at:
        first, last = map(time_in_words, (findings.first_started_at, findings.last_started_at))
        span = f"{first} to {last}"
    rows = {
        "Tautulli version": findings.tautulli_version or "unknown",
        "plays": f"{findings.total_records:,}",
        "started": span,
        "users": f"{findings.users:,}",
        "media types": ", ".join(f"{name} {n:,}" for name, n in findings.media_types.items()),
        "live TV": f"{findings.live:,}",
        "missing columns": _shortened(findings.missing_columns),
        "event size limit": findings.largest_event(),
    }
    print_fields(rows)
    print_line("")


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN]) or "none"
    return f"{shown} and {more} more (see --json)" if more > 0 else shown


def print_outcomes(findings: Findings) -> None:
    """Print the expected outcomes and the table they were compared with."""
    print_counts(findings.verdicts(), {"plays in the database": findings.total_records})
    for line in findings.compared_with():
        print_line(line)
