"""The partitions of `session_history` and `playback_stream`, as Dagster remembers them."""

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
    """The `PartitionHistory` of an import in Dagster's storage.

    Args:
        instance: where it is stored.
        log_event: records an event: that of the run at hand, or the instance's own.

    Attributes:
        published: what was recorded through this object.
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
    """When `playback_events` was recorded last, in UTC without a zone."""
    event = instance.get_latest_materialization_event(TABLE_KEY)
    return _EPOCH + timedelta(seconds=event.timestamp) if event else _EPOCH


def finished_partitions(instance: dg.DagsterInstance) -> dict[str, Finished]:
    """Every materialized partition of `playback_stream`."""
    versions = _data_versions(instance, STREAM_KEY)
    return {key: Finished.parse(text) for key, text in versions.items() if ":" in text}


def read_contents(instance: dg.DagsterInstance) -> dict[str, str]:
    """The digest with which each partition of `session_history` was read last."""
    return _data_versions(instance, HISTORY_KEY)


def _data_versions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, str]:
    tags: Mapping[str, Mapping[str, str]] = instance.event_log_storage.get_latest_tags_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[DATA_VERSION]
    )
    return {key: values[DATA_VERSION] for key, values in tags.items() if DATA_VERSION in values}


def published_before(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Partitions that `run` need not publish: those of the runs that it takes up.

    Only those: whoever asks for finished partitions gets them published again.
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
    """The grid of this data directory; None before its first import."""
    shown = instance.get_dynamic_partitions(PARTITIONS.name or "")
    # Where none is shown, the source lost its plays, or a kill came between.
    recorded = () if shown else sorted(_data_versions(instance, STREAM_KEY))
    grids = map(_grid_of, (*shown, *recorded))
    return next((grid for grid in grids if grid is not None), None)


def _grid_of(key: str) -> Grid | None:
    try:
        return Partition.parse(key).grid
    except ValueError:
        return None  # a person made it up


def show_partitions(instance: dg.DagsterInstance, keys: Iterable[str]) -> None:
    """Make exactly these partitions known; what was recorded of others stays recorded.

    Dagster shows and ranges over partitions in the order in which they were added, so
    those that come after a new one are added again.
    """
    name, wanted = PARTITIONS.name or "", set(keys)
    known = instance.get_dynamic_partitions(name)
    kept, ordered = [key for key in known if key in wanted], sorted(wanted)
    stays = set(kept[: _same(kept, ordered)])
    for key in known:
        if key not in stays:
            instance.delete_dynamic_partition(name, key)
    instance.add_dynamic_partitions(name, ordered)


def _same(known: Sequence[str], wanted: Sequence[str]) -> int:
    """How many they have in common from the first on."""
    pairs = zip(known, wanted, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(known))


def forget_partitions(instance: dg.DagsterInstance) -> int:
    """Forget every partition and what was recorded of it; gives how many there were.

    The records go first: partitions without them are all due, also if this is cut short.
    """
    instance.wipe_assets([HISTORY_KEY, STREAM_KEY])
    keys = instance.get_dynamic_partitions(PARTITIONS.name or "")
    for key in keys:
        instance.delete_dynamic_partition(PARTITIONS.name or "", key)
    return len(keys)


def forget_history(data_dir: Path) -> int:
    """Forget every partition in the storage of a data directory; gives how many there were."""
    if not DataDir(data_dir).run_history.is_dir():  # opening an instance would make it
        return 0
    with open_instance(data_dir) as instance:
        fail_orphaned_runs(instance, "import_job")
        return forget_partitions(instance)
