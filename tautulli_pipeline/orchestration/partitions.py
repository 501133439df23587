"""The partitions of `session_history` and `playback_stream`, and what Dagster remembers of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import dagster as dg

from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.source.partitions import Grid

PARTITIONS: Final = dg.DynamicPartitionsDefinition(name="history_ranges")
HISTORY_KEY: Final = dg.AssetKey("session_history")
STREAM_KEY: Final = dg.AssetKey("playback_stream")

_VERSION_TAG: Final = "dagster/data_version"


def finished_partitions(instance: dg.DagsterInstance) -> dict[str, Finished]:
    """Every materialized partition of `playback_stream`."""
    tags: Mapping[str, Mapping[str, str]] = instance.event_log_storage.get_latest_tags_by_partition(
        STREAM_KEY, dg.DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[_VERSION_TAG]
    )
    return {
        key: Finished.parse(values[_VERSION_TAG])
        for key, values in tags.items()
        if ":" in values.get(_VERSION_TAG, "")
    }


def known_grid(instance: dg.DagsterInstance) -> Grid | None:
    """The grid of this data directory; None before its first import."""
    keys = instance.get_dynamic_partitions(PARTITIONS.name or "")
    return next((grid for key in keys if (grid := Grid.of_key(key))), None)


def add_partitions(instance: dg.DagsterInstance, keys: Iterable[str]) -> None:
    """Make partitions known, in key order, which is the order they are shown in."""
    instance.add_dynamic_partitions(PARTITIONS.name or "", sorted(keys))


def forget_partitions(instance: dg.DagsterInstance) -> int:
    """Forget every partition and what was recorded of it; gives how many there were.

    The records go first: partitions without them are all due, also if this is cut short.
    """
    instance.wipe_assets([HISTORY_KEY, STREAM_KEY])
    keys = instance.get_dynamic_partitions(PARTITIONS.name or "")
    for key in keys:
        instance.delete_dynamic_partition(PARTITIONS.name or "", key)
    return len(keys)
