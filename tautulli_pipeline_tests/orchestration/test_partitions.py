"""Which partitions Dagster knows, and in which order."""

from __future__ import annotations

import dagster as dg
import pytest

from tautulli_pipeline.orchestration.column_schemas import STREAM_KEY
from tautulli_pipeline.orchestration.partitions import (
    DATA_VERSION,
    add_partitions,
    finished_partitions,
    forget_partitions,
    known_grid,
    show_partitions,
)
from tautulli_pipeline.source.partitions import Grid

FIRST, SECOND, THIRD = (Grid(10).key_of(i) for i in (1, 11, 21))


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def known(instance):
    return list(instance.get_dynamic_partitions("history_ranges"))


def publish(instance, key):
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            STREAM_KEY, partition=key, tags={DATA_VERSION: "import:place:digest"}
        )
    )


def test_partitions_are_known_in_the_order_of_their_ids_however_they_came(instance):
    """Dagster's ranges go by the order in which keys were added."""
    add_partitions(instance, [THIRD, "other"])
    add_partitions(instance, [FIRST])
    add_partitions(instance, [SECOND])
    assert known(instance) == [FIRST, SECOND, THIRD, "other"]


def test_only_ranges_with_rows_are_shown(instance):
    show_partitions(instance, [FIRST, SECOND])
    publish(instance, SECOND)
    show_partitions(instance, [FIRST, THIRD])
    assert known(instance) == [FIRST, THIRD]
    # Should its rows come back, it is finished if they are what they were.
    assert finished_partitions(instance)[SECOND].content == "digest"


def test_the_width_outlives_the_rows(instance):
    assert known_grid(instance) is None
    show_partitions(instance, [FIRST])
    assert known_grid(instance) == Grid(10)
    publish(instance, FIRST)
    show_partitions(instance, [])
    assert known_grid(instance) == Grid(10)
    forget_partitions(instance)
    assert known_grid(instance) is None
