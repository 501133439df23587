"""A look at the source that publishes nothing: what it holds and what an import would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import dagster as dg

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.session import SourceFacts, open_source
from tautulli_pipeline.imports.validation import Findings, judge
from tautulli_pipeline.orchestration.column_schemas import DATABASE_KEY, HISTORY_KEY, TABLE_KEY
from tautulli_pipeline.orchestration.data_directory import data_directory, explained_faults
from tautulli_pipeline.orchestration.partitions import (
    DATA_VERSION,
    finished_partitions,
    known_grid,
    read_contents,
)
from tautulli_pipeline.orchestration.run_tables import (
    ranges_in_words,
    source_metadata,
    verdict_metadata,
)
from tautulli_pipeline.orchestration.services import data_paths
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.source.survey import PartitionContent


@dataclass(frozen=True)
class Inspected:
    """What a dry run found out."""

    facts: SourceFacts
    contents: tuple[PartitionContent, ...]
    findings: Findings


class Inspecting(Protocol):
    """Where a run gets a look at the source."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be published."""

    def inspect(self, instance: dg.DagsterInstance) -> Inspected:
        """Read all of the source."""


class StandingInspection:
    """Looks at the database of `IMPORT_DB_PATH`."""

    @property
    def dry_run(self) -> bool:
        """What `IMPORT_DRY_RUN` says."""
        return load_settings().import_dry_run

    def inspect(self, instance: dg.DagsterInstance) -> Inspected:
        """Read all of the source; the table is only read, and only where nobody holds it.

        Raises:
            ConfigurationError: no database is named.
            SourceError: there is no readable Tautulli database.
        """
        settings = load_settings()
        path = settings.import_db_path
        if path is None:
            raise ConfigurationError(
                "no database to read", hint="set IMPORT_DB_PATH for the Dagster processes"
            )
        with (
            _data_directory(settings),
            open_source(path, data_paths(settings).snapshots) as source,
        ):
            contents = source.survey(known_grid(instance), settings.import_batch_size)
            findings = judge(
                source, warehouse=settings.warehouse_path, server_id=settings.import_server_id
            )
            return Inspected(source.describe(contents), tuple(contents), findings)


@contextmanager
def _data_directory(settings: Settings) -> Iterator[None]:
    with explained_faults(settings.data_dir), data_directory(settings):
        yield


def report_inspection(context: dg.OpExecutionContext, inspecting: Inspecting) -> Findings:
    """Record what an import would do, and make the ranges stale that changed."""
    inspected = inspecting.inspect(context.instance)
    contents = {content.key: content for content in inspected.contents}
    finished = finished_partitions(context.instance)
    published = {key: last.content for key, last in finished.items()}
    new = [key for key in contents if key not in published]
    changed = [
        key
        for key, content in contents.items()
        if published.get(key, content.digest) != content.digest
    ]
    gone = sorted(set(published) - set(contents))
    context.log_event(
        dg.AssetObservation(
            DATABASE_KEY,
            metadata={
                **source_metadata(inspected.facts),
                "due": dg.MetadataValue.md(ranges_in_words(new, changed, gone)),
            },
            tags={DATA_VERSION: inspected.facts.fingerprint},
        )
    )
    _make_stale(context, [contents[key] for key in changed], read_contents(context.instance))
    context.log_event(
        dg.AssetObservation(
            TABLE_KEY,
            description="A dry run; nothing was published.",
            metadata=verdict_metadata(inspected.findings),
        )
    )
    return inspected.findings


def _make_stale(
    context: dg.OpExecutionContext, changed: Sequence[PartitionContent], read: Mapping[str, str]
) -> None:
    """What is newer in `session_history` than in `playback_stream`, Dagster shows as stale."""
    for content in changed:
        if read.get(content.key) != content.digest:
            context.log_event(
                dg.AssetMaterialization(
                    HISTORY_KEY,
                    description="Changed in the source since it was published.",
                    partition=content.key,
                    metadata={"dagster/partition_row_count": content.rows},
                    tags={DATA_VERSION: content.digest},
                )
            )
