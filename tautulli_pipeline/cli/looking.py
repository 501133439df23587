"""The `report` command."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from tautulli_pipeline.cli.lines import print_line, print_notice
from tautulli_pipeline.cli.reporting import print_json
from tautulli_pipeline.settings import Settings


def run_report(
    settings: Settings,
    year: int | None,
    user: str | None,
    file: Path | None,
    *,
    opening: bool,
    as_json: bool,
) -> None:
    """Write the report, say where it is, and open it if asked to."""
    from tautulli_pipeline.reporting.access import current_analytics
    from tautulli_pipeline.reporting.report import default_file, write_report

    file = (file or default_file(settings.data_dir, year, user)).absolute()
    plays = write_report(current_analytics(settings, print_notice), file, year, user)
    if as_json:
        print_json({"report": str(file), "plays": plays})
    else:
        print_line(f"the report of {plays:,} play{'' if plays == 1 else 's'} is in {file}")
    if opening and not webbrowser.open(file.as_uri()):
        print_notice(f"no browser was found; open {file.as_uri()} in one")
