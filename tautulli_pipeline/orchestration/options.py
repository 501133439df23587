"""Run config of the jobs, with the descriptions that the launchpad shows."""

from enum import Enum
from typing import Final

import dagster as dg
from pydantic import Field

from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS
from tautulli_pipeline.warehouse.audit_words import LAYERS, REASONS, STATUSES

# Choices that the launchpad completes. mypy accepts only literals as the members of an `Enum`.
_Reason = Enum("Reason", [(name, name) for name in REASONS])  # type: ignore[misc]
_Layer = Enum("Layer", [(name, name) for name in LAYERS])  # type: ignore[misc]
_Status = Enum("Status", [(name, name) for name in STATUSES])  # type: ignore[misc]

_ADDRESS_EXAMPLE: Final = "http://nas:8181"
_EXAMPLE: Final = "/var/lib/tautulli/tautulli.db"


class SourceOptions(dg.Config):
    """The database to read."""

    source: str | None = Field(
        default=None,
        description="Path of a tautulli.db, a plexpy.db or a .zip backup made by Tautulli, such "
        f"as {_EXAMPLE}, or the address of a running Tautulli, such as {_ADDRESS_EXAMPLE}. "
        "Defaults to IMPORT_DB_PATH.",
        examples=[_EXAMPLE, _ADDRESS_EXAMPLE],
    )
    salvage: bool = Field(
        default=False, description="If the database is damaged, use the rows that are readable."
    )


class DryRunOptions(SourceOptions):
    """Options of a dry run."""

    server: str | None = Field(
        default=None,
        description="The server of `pipeline.toml` whose database it is, such as `home`. Defaults "
        "to all servers, each with its own database.",
        examples=["home"],
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


_IDS_EXAMPLE: Final = ["3f2a91bc", "d04c77e1"]
_IMPORT_EXAMPLE: Final = "20260101T040000-1a2b3c4d"


class _Choice(dg.Config):
    """Which rows of the audit log or of the dead letters: by ids, or by filters."""

    import_id: str | None = Field(
        default=None,
        description=f"Only those of this import, such as {_IMPORT_EXAMPLE}.",
        examples=[_IMPORT_EXAMPLE],
    )

    def filters(self) -> dict[str, str | None]:
        """Return the required value of each column; None matches any value."""
        raise NotImplementedError

    @property
    def has_filters(self) -> bool:
        """Whether a filter is set."""
        return any(value is not None for value in self.filters().values())


class Duplicates(_Choice):
    """The duplicates to process: those with these ids, or those that match all filters."""

    ids: list[str] = Field(
        default=[],
        description="Ids that `tautulli-pipeline duplicates list` shows, such as "
        f"{_IDS_EXAMPLE}. The first characters are enough. Leave it empty to use the filters.",
        examples=[_IDS_EXAMPLE],
    )
    reason: _Reason | None = Field(
        default=None,
        description=f"Only those that were matched by this key: {', '.join(REASONS)}.",
        examples=[REASONS[-1]],
    )
    layer: _Layer | None = Field(
        default=None,
        description=f"Only those that this layer found: {' or '.join(LAYERS)}.",
        examples=[LAYERS[-1]],
    )
    status: _Status | None = Field(
        default=None,
        description=f"Only those with this status: {', '.join(STATUSES)}.",
        examples=[STATUSES[0]],
    )

    def filters(self) -> dict[str, str | None]:
        """Return the required value of each column; None matches any value."""
        return {
            "dedupe_reason": self.reason and self.reason.value,
            "dedupe_layer": self.layer and self.layer.value,
            "status": self.status and self.status.value,
            "import_id": self.import_id,
        }


class DeadLetters(_Choice):
    """The dead letters to replay: those with these ids, or the open ones that match all filters."""

    ids: list[str] = Field(
        default=[],
        description="Ids that `tautulli-pipeline dead-letters list` shows, such as "
        f"{_IDS_EXAMPLE}. The first characters are enough. Leave it empty to replay all open ones "
        "that the filters allow.",
        examples=[_IDS_EXAMPLE],
    )
    reason: str | None = Field(
        default=None,
        description="Only those whose reason starts with this text, such as `missing title`.",
        examples=["missing title"],
    )
    origin: str | None = Field(
        default=None,
        description="Only those of `session_history`, or of a stream subject.",
        examples=["session_history"],
    )
    database: str | None = Field(
        default=None,
        description=f"Path of the Tautulli database with the corrected rows, such as {_EXAMPLE}. "
        "Defaults to IMPORT_DB_PATH.",
        examples=[_EXAMPLE],
    )

    def filters(self) -> dict[str, str | None]:
        """Return the required value of each column; None matches any value."""
        return {"reason": self.reason, "origin": self.origin, "import_id": self.import_id}
