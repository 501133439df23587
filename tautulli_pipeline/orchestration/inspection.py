"""Dry runs: report what the source holds and what an import would do, and publish nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from tautulli_pipeline.data_dir.directory import data_directory, explained_faults
from tautulli_pipeline.imports.validation import Findings, validate
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.history import DATA_VERSION, DagsterHistory, history_of
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.orchestration.options import SourceOptions
from tautulli_pipeline.orchestration.resources import source_path
from tautulli_pipeline.orchestration.run_tables import (
    ranges_table,
    source_metadata,
    verdict_metadata,
)
from tautulli_pipeline.orchestration.stops import fault_as_failure
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.survey import PartitionContent


def report_inspection(
    context: dg.OpExecutionContext, settings: Settings, options: SourceOptions
) -> None:
    """Record what an import would do, and mark changed ranges as stale."""
    history, names = history_of(context.instance, settings), Names(settings.server)
    with fault_as_failure():
        described, contents, findings = _inspect(settings, history, options)
    published = {key: last.content for key, last in history.finished().items()}
    new = [key for key in contents if key not in published]
    changed = [
        key
        for key, content in contents.items()
        if published.get(key, content.digest) != content.digest
    ]
    gone = sorted(set(published) - set(contents))
    context.log_event(
        dg.AssetObservation(
            names.database_key,
            metadata={
                **described,
                "due": dg.MetadataValue.md(ranges_table(new, changed, gone)),
            },
            tags={DATA_VERSION: described["fingerprint"]},
        )
    )
    _mark_stale(context, names, [contents[key] for key in changed], history.contents())
    context.log_event(
        dg.AssetObservation(
            TABLE_KEY,
            description=f"Dry run{f' of {names.server}' * bool(names.server)}: nothing was "
            "published.",
            metadata=verdict_metadata(findings),
        )
    )


def _inspect(
    settings: Settings, history: DagsterHistory, options: SourceOptions
) -> tuple[dict[str, Any], dict[str, PartitionContent], Findings]:
    """Describe the whole source and compare it with the table, unless another process holds it."""
    path = source_path(settings, options.source)
    with (
        explained_faults(settings.data_dir),
        data_directory(settings),
        open_source(path, settings.layout.snapshots, salvaging=options.salvage) as source,
    ):
        contents = source.survey(history.grid(), settings.import_batch_size)
        findings = validate(source, settings)
        return source_metadata(source, contents), {c.key: c for c in contents}, findings


def _mark_stale(
    context: dg.OpExecutionContext,
    names: Names,
    changed: Sequence[PartitionContent],
    read: Mapping[str, str],
) -> None:
    """Record the new content in `session_history`, so that Dagster shows the stream as stale."""
    for content in changed:
        if read.get(content.key) != content.digest:
            context.log_event(
                dg.AssetMaterialization(
                    names.history_key,
                    description="Changed in the source since it was last published.",
                    partition=content.key,
                    metadata={"dagster/partition_row_count": content.rows},
                    tags={DATA_VERSION: content.digest},
                )
            )
