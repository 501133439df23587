"""What a person can choose when starting a run, explained in the launchpad."""

from typing import Final

import dagster as dg
from pydantic import Field

from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS

_EXAMPLE: Final = "/var/lib/tautulli/tautulli.db"


class SourceOptions(dg.Config):
    """Which database is read."""

    source: str | None = Field(
        default=None,
        description="A tautulli.db, a plexpy.db or one of Tautulli's .zip backups, such as "
        f"{_EXAMPLE}. Without it, IMPORT_DB_PATH names the database.",
        examples=[_EXAMPLE],
    )
    salvage: bool = Field(default=False, description="Of a damaged database, use what is readable.")


class ImportOptions(SourceOptions):
    """How an import runs."""

    fresh: bool = Field(
        default=False,
        description="Import every play again, also those that are imported already. The table "
        "stays, and what it holds is counted as duplicates.",
    )
    dry_run: bool = Field(
        default=False,
        description="Only count what an import would find. IMPORT_DRY_RUN=true does the same.",
    )
    wait: int = Field(
        default=int(WAREHOUSE_WAIT_SECONDS),
        ge=0,
        description="How many seconds to wait for another program that has the DuckDB file open.",
    )
