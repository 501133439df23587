"""The report: a page of tables and charts, written whenever the statistics have changed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.orchestration.analytics import ANALYTICS_KEYS
from tautulli_pipeline.orchestration.stops import fault_as_failure
from tautulli_pipeline.settings import load_standing_settings

REPORT_KEY: Final = dg.AssetKey("report")

# Writes the report, and returns its file and the number of plays that it is about.
Reporting = Callable[[], tuple[Path, int]]


@dg.asset(
    key=REPORT_KEY,
    deps=ANALYTICS_KEYS,
    description="A page of tables and charts: the year in review, and statistics of all plays. It "
    "is one HTML file that needs no network.\n\n**Next:** open `report.html` in the data "
    "directory, or `/report` at the address of this page. `tautulli-pipeline report --user NAME` "
    "writes the page of one person.",
    group_name="report",
    owners=["team:tautulli"],
    kinds={"html", "duckdb"},
    output_required=False,
)
def report(
    context: dg.AssetExecutionContext, reporting: dg.ResourceParam[Reporting]
) -> Iterator[dg.Output[None]]:
    """Write the page."""
    with fault_as_failure():
        file, plays = reporting()
    if not plays:
        context.log.info("there are no plays yet, and no report")
        return
    yield dg.Output(
        None,
        metadata={
            "plays": plays,
            "size_bytes": file.stat().st_size,
            "file": dg.MetadataValue.path(file),
            # Served by `up`, next to the UI.
            "page": dg.MetadataValue.url("/report"),
        },
    )


@dg.resource(description="Writes the report of all plays.")
def reporting(_context: dg.InitResourceContext) -> Reporting:
    """Return the function that writes it."""

    def write() -> tuple[Path, int]:
        from tautulli_pipeline.reporting.report import write_report

        layout = load_standing_settings().layout
        return layout.report, write_report(layout.analytics, layout.report, empty_allowed=True)

    return write
