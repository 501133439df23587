"""Partitions of `session_history` and `playback_stream` in Dagster's storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.orchestration.column_schemas import HISTORY_KEY, STREAM_KEY, TABLE_KEY
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.run_tables import (
    history_metadata,
    stream_metadata,
)
from tautulli_pipeline.orchestration.workers import fail_orphaned_runs
from tautulli_pipeline.source.partitions import Grid, Partition
from tautulli_pipeline.source.survey import PartitionContent

_NAME: Final = "history_ranges"
PARTITIONS: Final = dg.DynamicPartitionsDefinition(name=_NAME)
DATA_VERSION: Final = "dagster/data_version"
_PAGE: Final = 1000
_SEPARATOR: Final = " "
# Servers, warehouses and streams for which one partition is remembered.
_MOST_PLACES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1)

LogEvent = Callable[[dg.AssetMaterialization], None]


class DagsterHistory:
    """A `PartitionHistory` that is kept in Dagster's storage.

    Args:
        instance: the Dagster instance that stores it.
        log_event: records an event in the current run; by default, outside of runs.

    Attributes:
        published: the partitions recorded through this object.
    """

    def __init__(self, instance: dg.DagsterInstance, log_event: LogEvent | None = None) -> None:
        self._instance = instance
        self._log_event = log_event or instance.report_runless_asset_event
        self.published: set[Partition] = set()
        self._finished: dict[str, list[Finished]] = {}

    def grid(self) -> Grid | None:
        """Return the grid of this data directory; None before its first import."""
        shown = self.shown()
        # If none is shown, the source has lost its plays, or a process was killed in between.
        recorded = () if shown else sorted(self._data_versions(STREAM_KEY))
        grids = map(_grid_of, (*shown, *recorded))
        return next((grid for grid in grids if grid is not None), None)

    def finished(self, place: str | None = None) -> dict[str, Finished]:
        """Return every finished partition of a place, by default the latest publication of each.

        A server, its warehouse and its stream are one place; the record of a partition lists its
        publications to each place, the latest first.
        """
        versions = self._data_versions(STREAM_KEY)
        self._finished = {key: _parse_all(text) for key, text in versions.items()}
        found = {}
        for key, publications in self._finished.items():
            to_place = (one for one in publications if place in {None, one.place})
            if (first := next(to_place, None)) is not None:
                found[key] = first
        return found

    def contents(self) -> dict[str, str]:
        """Return the latest content digest of each partition of `session_history`."""
        return self._data_versions(HISTORY_KEY)

    def _data_versions(self, asset: dg.AssetKey) -> dict[str, str]:
        storage = self._instance.event_log_storage
        tags: Mapping[str, Mapping[str, str]] = storage.get_latest_tags_by_partition(
            asset, dg.DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[DATA_VERSION]
        )
        return {key: values[DATA_VERSION] for key, values in tags.items() if DATA_VERSION in values}

    def shown(self) -> Sequence[str]:
        """Return the partitions that Dagster lists."""
        return self._instance.get_dynamic_partitions(_NAME)

    def show(self, keys: Iterable[str], place: str | None = None) -> None:
        """Show exactly these partitions of a place in Dagster; records of others are kept.

        Dagster lists partitions, and resolves partition ranges, in the order in which they were
        added. Partitions that sort after a new one are therefore deleted and added again.
        """
        known = self.shown()
        wanted = {*keys, *(key for key in known if place and self._is_of_another(key, place))}
        kept, ordered = [key for key in known if key in wanted], sorted(wanted)
        pairs = zip(kept, ordered, strict=False)
        unchanged = {key for key, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)}
        self._delete(key for key in known if key not in unchanged)
        self._instance.add_dynamic_partitions(_NAME, ordered)

    def _is_of_another(self, key: str, place: str) -> bool:
        publications = self._finished.get(key, [])
        return bool(publications) and all(one.place != place for one in publications)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._instance.delete_dynamic_partition(_NAME, key)

    def forget(self) -> int:
        """Delete every partition and its records; return the number of partitions.

        The records are deleted first: if this is interrupted, the remaining partitions are due.
        """
        self._instance.wipe_assets([HISTORY_KEY, STREAM_KEY])
        keys = self.shown()
        self._delete(keys)
        return len(keys)

    def record(self, receipt: Receipt, content: PartitionContent, finished: Finished) -> None:
        """Record a published partition of both assets."""
        known = self._finished.get(content.key, [])
        others = [one for one in known if one.place != finished.place][: _MOST_PLACES - 1]
        self._finished[content.key] = [finished, *others]
        # A partition that is published again, because events were lost, counts once.
        self.published.add(content.partition)
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
                metadata=stream_metadata(receipt, content),
                tags={DATA_VERSION: _SEPARATOR.join(map(str, (finished, *others)))},
            )
        )


def _parse_all(text: str) -> list[Finished]:
    return [Finished.parse(one) for one in text.split(_SEPARATOR) if ":" in one]


def _grid_of(key: str) -> Grid | None:
    try:
        return Partition.parse(key).grid
    except ValueError:
        return None  # a partition added by hand


def last_materialized_at(instance: dg.DagsterInstance) -> datetime:
    """Return when `playback_events` was last materialized, as a naive UTC time."""
    event = instance.get_latest_materialization_event(TABLE_KEY)
    return _EPOCH + timedelta(seconds=event.timestamp) if event else _EPOCH


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


def forget_history(data_dir: Path) -> int:
    """Delete every partition in a data directory's storage; return the number of partitions."""
    if not DataDir(data_dir).run_history.is_dir():  # opening an instance would create it
        return 0
    with open_instance(data_dir) as instance:
        fail_orphaned_runs(instance, "import_job")
        return DagsterHistory(instance).forget()
