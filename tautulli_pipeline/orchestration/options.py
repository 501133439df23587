"""Run config of the jobs, with the descriptions that the launchpad shows."""

from typing import Final

import dagster as dg
from pydantic import Field

from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS

_EXAMPLE: Final = "/var/lib/tautulli/tautulli.db"


class SourceOptions(dg.Config):
    """The database to read."""

    source: str | None = Field(
        default=None,
        description="Path of a tautulli.db, a plexpy.db or a .zip backup made by Tautulli, such "
        f"as {_EXAMPLE}. Defaults to IMPORT_DB_PATH.",
        examples=[_EXAMPLE],
    )
    salvage: bool = Field(
        default=False, description="If the database is damaged, use the rows that are readable."
    )


class ImportOptions(SourceOptions):
    """Options of an import."""

    fresh: bool = Field(
        default=False,
        description="Import every play again, even if it was already imported. The table is kept; "
        "plays that it already holds count as duplicates.",
    )
    dry_run: bool = Field(
        default=False,
        description="Only report what an import would do. IMPORT_DRY_RUN=true has the same effect.",
    )
    wait: int = Field(
        default=int(WAREHOUSE_WAIT_SECONDS),
        ge=0,
        description="How many seconds to wait if another program has the DuckDB file open.",
    )
