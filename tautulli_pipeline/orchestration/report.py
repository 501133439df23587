"""The report as an asset: a page of tables and charts, written when the statistics have changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.settings import load_standing_settings

REPORT_KEY: Final = dg.AssetKey("report")

# Writes the report if it is older than the statistics; returns its file and its number of plays.
Reporting = Callable[[], tuple[Path, int] | None]

_READ: Final = ("plays", "binges", "streams_by_day", "bandwidth_by_hour", "about")

REPORT: Final = dg.AssetSpec(
    REPORT_KEY,
    deps=[dg.AssetKey(["analytics", name]) for name in _READ],
    description="A page of tables and charts: the year in review, and statistics of all plays. It "
    "is one HTML file that needs no network.\n\n**Next:** open `report.html` in the data "
    "directory, or `/report` at the address of this page. `tautulli-pipeline report --user NAME` "
    "writes the page of one person.",
    group_name="report",
    owners=["team:tautulli"],
    kinds={"html", "duckdb"},
    skippable=True,
)


def materialized(file: Path, plays: int) -> dg.MaterializeResult[None]:
    """Return what a run records about a report that it has written."""
    return dg.MaterializeResult(
        asset_key=REPORT_KEY,
        metadata={
            "plays": plays,
            "size_bytes": file.stat().st_size,
            "file": dg.MetadataValue.path(file),
            # Served by `up`, next to the UI.
            "page": dg.MetadataValue.url("/report"),
        },
    )


@dg.resource(description="Writes the report if it is older than the statistics.")
def reporting(context: dg.InitResourceContext) -> Reporting:
    """Return the function that writes it; a report that fails does not fail the build."""

    def write() -> tuple[Path, int] | None:
        from tautulli_pipeline.reporting.report import is_outdated, write_report

        layout = load_standing_settings().layout
        if not is_outdated(layout):
            return None
        try:
            plays = write_report(layout.analytics, layout.report, empty_allowed=True)
        except Exception as error:
            assert context.log is not None
            context.log.warning(f"the report could not be written: {error!r}")
            return None
        return (layout.report, plays) if plays else None

    return write
