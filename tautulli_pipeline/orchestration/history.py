"""Partitions of `session_history` and `playback_stream` in Dagster's storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.orchestration.column_schemas import HISTORY_KEY, STREAM_KEY, TABLE_KEY
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.run_tables import (
    Published,
    history_metadata,
    stream_metadata,
)
from tautulli_pipeline.orchestration.workers import fail_orphaned_runs
from tautulli_pipeline.source.partitions import Grid, Partition
from tautulli_pipeline.source.survey import PartitionContent

PARTITIONS: Final = dg.DynamicPartitionsDefinition(name="history_ranges")
DATA_VERSION: Final = "dagster/data_version"
_PAGE: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1)

LogEvent = Callable[[dg.AssetMaterialization], None]


class DagsterHistory:
    """A `PartitionHistory` that is kept in Dagster's storage.

    Args:
        instance: the Dagster instance that stores it.
        log_event: records an event, either in the current run or outside of runs.

    Attributes:
        published: the partitions recorded through this object.
    """

    def __init__(self, instance: dg.DagsterInstance, log_event: LogEvent) -> None:
        self._instance = instance
        self._log_event = log_event
        self.published = Published()

    def grid(self) -> Grid | None:
        """See `PartitionHistory`."""
        return known_grid(self._instance)

    def finished(self) -> dict[str, Finished]:
        """See `PartitionHistory`."""
        return finished_partitions(self._instance)

    def show(self, keys: Iterable[str]) -> None:
        """See `PartitionHistory`."""
        show_partitions(self._instance, keys)

    def record(self, receipt: Receipt, content: PartitionContent, finished: Finished) -> None:
        """See `PartitionHistory`."""
        facts = stream_metadata(receipt, content)
        self.published.add(content.partition, facts)
        self._log_event(
            dg.AssetMaterialization(
                HISTORY_KEY,
                partition=content.key,
                metadata=history_metadata(receipt, content),
                tags={DATA_VERSION: content.digest},
            )
        )
        self._log_event(
            dg.AssetMaterialization(
                STREAM_KEY,
                partition=content.key,
                metadata=facts,
                tags={DATA_VERSION: str(finished)},
            )
        )


def last_materialized_at(instance: dg.DagsterInstance) -> datetime:
    """Return when `playback_events` was last materialized, as a naive UTC time."""
    event = instance.get_latest_materialization_event(TABLE_KEY)
    return _EPOCH + timedelta(seconds=event.timestamp) if event else _EPOCH


def finished_partitions(instance: dg.DagsterInstance) -> dict[str, Finished]:
    """Return every materialized partition of `playback_stream`."""
    versions = _data_versions(instance, STREAM_KEY)
    return {key: Finished.parse(text) for key, text in versions.items() if ":" in text}


def read_contents(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return the latest content digest of each partition of `session_history`."""
    return _data_versions(instance, HISTORY_KEY)


def _data_versions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, str]:
    tags: Mapping[str, Mapping[str, str]] = instance.event_log_storage.get_latest_tags_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[DATA_VERSION]
    )
    return {key: values[DATA_VERSION] for key, values in tags.items() if DATA_VERSION in values}


def published_before(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Return the partitions that earlier attempts of `run` have already published.

    A new run publishes the requested partitions again, even if they are finished.
    """
    if run.root_run_id is None:
        return set()
    family = instance.get_run_group(run.run_id)
    members = {member.run_id: member for member in (family[1] if family else ())}
    root = instance.get_run_record_by_id(run.root_run_id)
    parent = members.get(run.parent_run_id or "")
    if root is None or parent is None or parent.status is dg.DagsterRunStatus.SUCCESS:
        return set()
    wanted = dg.AssetRecordsFilter(
        asset_key=STREAM_KEY, after_timestamp=root.create_timestamp.timestamp()
    )
    published: set[str] = set()
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        published |= {r.partition_key or "" for r in page.records if r.run_id in members}
        if not page.has_more:
            return published
        cursor = page.cursor


def known_grid(instance: dg.DagsterInstance) -> Grid | None:
    """Return the grid of this data directory; None before its first import."""
    shown = instance.get_dynamic_partitions(PARTITIONS.name or "")
    # If none is shown, the source has lost its plays, or a process was killed in between.
    recorded = () if shown else sorted(_data_versions(instance, STREAM_KEY))
    grids = map(_grid_of, (*shown, *recorded))
    return next((grid for grid in grids if grid is not None), None)


def _grid_of(key: str) -> Grid | None:
    try:
        return Partition.parse(key).grid
    except ValueError:
        return None  # a partition added by hand


def show_partitions(instance: dg.DagsterInstance, keys: Iterable[str]) -> None:
    """Show exactly these partitions in Dagster; records of other partitions are kept.

    Dagster lists partitions, and resolves partition ranges, in the order in which they were
    added. Partitions that sort after a new one are therefore deleted and added again.
    """
    name, wanted = PARTITIONS.name or "", set(keys)
    known = instance.get_dynamic_partitions(name)
    kept, ordered = [key for key in known if key in wanted], sorted(wanted)
    unchanged = set(kept[: _common_prefix_length(kept, ordered)])
    for key in known:
        if key not in unchanged:
            instance.delete_dynamic_partition(name, key)
    instance.add_dynamic_partitions(name, ordered)


def _common_prefix_length(known: Sequence[str], wanted: Sequence[str]) -> int:
    """Return how many leading keys both sequences share."""
    pairs = zip(known, wanted, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(known))


def forget_partitions(instance: dg.DagsterInstance) -> int:
    """Delete every partition and its records; return the number of partitions.

    The records are deleted first: if this is interrupted, the remaining partitions are due.
    """
    instance.wipe_assets([HISTORY_KEY, STREAM_KEY])
    keys = instance.get_dynamic_partitions(PARTITIONS.name or "")
    for key in keys:
        instance.delete_dynamic_partition(PARTITIONS.name or "", key)
    return len(keys)


def forget_history(data_dir: Path) -> int:
    """Delete every partition in a data directory's storage; return the number of partitions."""
    if not DataDir(data_dir).run_history.is_dir():  # opening an instance would create it
        return 0
    with open_instance(data_dir) as instance:
        fail_orphaned_runs(instance, "import_job")
        return forget_partitions(instance)
