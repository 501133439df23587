"""Which partitions Dagster knows, and in which order."""

from __future__ import annotations

import dagster as dg
from dagster._core.events import StepMaterializationData
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG
from dagster._core.test_utils import create_run_for_test
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.orchestration import partitions
from tautulli_pipeline.orchestration.column_schemas import HISTORY_KEY, STREAM_KEY
from tautulli_pipeline.orchestration.partitions import (
    DATA_VERSION,
    add_partitions,
    finished_partitions,
    forget_partitions,
    known_grid,
    published_before,
    read_contents,
    show_partitions,
)
from tautulli_pipeline.source.partitions import LAST_GRID_ID, Grid

FIRST, SECOND, THIRD = (Grid(10).key_of(i) for i in (1, 11, 21))


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


def test_what_was_recorded_without_a_version_is_not_finished(instance):
    publish(instance, FIRST)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(STREAM_KEY, partition=SECOND, tags={DATA_VERSION: "by-hand"})
    )
    instance.report_runless_asset_event(dg.AssetMaterialization(STREAM_KEY, partition=THIRD))
    assert finished_partitions(instance) == {FIRST: Finished("import", "place:digest")}


def test_each_partition_is_as_it_was_read_last(instance):
    for key, digest in ((FIRST, "a"), (SECOND, "b"), (FIRST, "c")):
        instance.report_runless_asset_event(
            dg.AssetMaterialization(HISTORY_KEY, partition=key, tags={DATA_VERSION: digest})
        )
    assert read_contents(instance) == {FIRST: "c", SECOND: "b"}
    assert finished_partitions(instance) == {}


def test_forgetting_counts_the_ranges_and_takes_their_records(instance):
    show_partitions(instance, [FIRST, SECOND, "other"])
    publish(instance, FIRST)
    assert forget_partitions(instance) == 3
    assert known(instance) == []
    assert finished_partitions(instance) == {}
    assert forget_partitions(instance) == 0


def test_a_partition_that_does_not_tell_the_width_is_passed_over(instance):
    last = Grid(7).key_of(LAST_GRID_ID)
    show_partitions(instance, [last, "other"])
    assert known_grid(instance) is None
    add_partitions(instance, [Grid(7).key_of(1)])
    assert known_grid(instance) == Grid(7)


grid_keys = st.sets(st.integers(0, 9).map(lambda n: Grid(10).key_of(10 * n)), max_size=4)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.booleans(), grid_keys), min_size=1, max_size=3))
def test_whatever_is_added_and_shown_is_known_once_and_in_order(instance, steps):
    show_partitions(instance, [])
    expected = set()
    for only, keys in steps:
        (show_partitions if only else add_partitions)(instance, keys)
        expected = keys if only else expected | keys
        assert known(instance) == sorted(expected)


def run_in_family(instance, parent=None, *, status=dg.DagsterRunStatus.FAILURE):
    """A run, a new one or one that takes up `parent`."""
    root = (parent.root_run_id or parent.run_id) if parent else None
    return create_run_for_test(
        instance,
        job_name="import_job",
        status=status,
        parent_run_id=parent.run_id if parent else None,
        root_run_id=root,
        tags={ROOT_RUN_ID_TAG: root, PARENT_RUN_ID_TAG: parent.run_id} if parent else None,
    )


def publish_in(instance, run, *keys):
    for key in keys:
        event = dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name=run.job_name,
            event_specific_data=StepMaterializationData(
                dg.AssetMaterialization(STREAM_KEY, partition=key)
            ),
        )
        instance.report_dagster_event(event, run_id=run.run_id)


def test_a_run_taken_up_again_leaves_out_what_its_whole_family_published(instance, monkeypatch):
    monkeypatch.setattr(partitions, "_PAGE", 1)  # more than one page of events
    first = run_in_family(instance)
    publish_in(instance, first, FIRST)
    publish_in(instance, run_in_family(instance), THIRD)  # a stranger
    second = run_in_family(instance, first)
    publish_in(instance, second, SECOND)
    third = run_in_family(instance, second, status=dg.DagsterRunStatus.STARTED)
    assert published_before(instance, third) == {FIRST, SECOND}


def test_who_asks_anew_gets_everything_published_anew(instance):
    first = run_in_family(instance)
    publish_in(instance, first, FIRST)
    assert published_before(instance, run_in_family(instance)) == set()
    # A run that was done is not taken up: a re-execution of it is a wish of its own.
    done = run_in_family(instance, first, status=dg.DagsterRunStatus.SUCCESS)
    publish_in(instance, done, SECOND)
    assert published_before(instance, run_in_family(instance, done)) == set()


def test_a_run_whose_family_was_deleted_publishes_everything(instance):
    first = run_in_family(instance)
    second = run_in_family(instance, first)
    publish_in(instance, first, FIRST)
    third = run_in_family(instance, second)
    instance.delete_run(second.run_id)
    assert published_before(instance, third) == set()
