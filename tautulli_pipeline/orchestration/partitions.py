"""The partitions of `playback_stream` and what Dagster remembers of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import dagster as dg

from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.source.partitions import Grid

PARTITIONS: Final = dg.DynamicPartitionsDefinition(name="history_ranges")
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
