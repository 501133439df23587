"""Partitions in Dagster's storage: their order, their records and their grid."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa
from dagster._core.events import StepMaterializationData
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG
from dagster._core.test_utils import create_run_for_test
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, ROWS, Receipt
from tautulli_pipeline.orchestration import history
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.history import (
    DATA_VERSION,
    DagsterHistory,
    last_materialized_at,
    published_before,
)
from tautulli_pipeline.orchestration.names import ONLY
from tautulli_pipeline.source.partitions import LAST_GRID_ID, Grid
from tautulli_pipeline.source.survey import PartitionContent

HISTORY_KEY, STREAM_KEY = ONLY.history_key, ONLY.stream_key
FIRST, SECOND, THIRD = (Grid(10).partition_of(i).key for i in (1, 11, 21))


def known(instance):
    return list(instance.get_dynamic_partitions("history_ranges"))


def publish(instance, key):
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            STREAM_KEY, partition=key, tags={DATA_VERSION: "import:place:digest"}
        )
    )


def test_partitions_are_ordered_by_id_whatever_order_they_were_added_in(instance):
    """Dagster resolves partition ranges in the order in which keys were added."""
    DagsterHistory(instance).show([THIRD, "other"])
    DagsterHistory(instance).show([FIRST, THIRD, "other"])
    instance.add_dynamic_partitions("history_ranges", [SECOND])  # as the sensor does
    DagsterHistory(instance).show([FIRST, SECOND, THIRD, "other"])
    assert known(instance) == [FIRST, SECOND, THIRD, "other"]


def test_ranges_that_lost_their_rows_are_hidden_but_stay_finished(instance):
    DagsterHistory(instance).show([FIRST, SECOND])
    publish(instance, SECOND)
    DagsterHistory(instance).show([FIRST, THIRD])
    assert known(instance) == [FIRST, THIRD]
    # If the same rows come back, the range is still finished.
    assert DagsterHistory(instance).finished()[SECOND].content == "digest"


def test_the_grid_is_kept_when_all_rows_are_gone(instance):
    assert DagsterHistory(instance).grid() is None
    DagsterHistory(instance).show([FIRST])
    assert DagsterHistory(instance).grid() == Grid(10)
    publish(instance, FIRST)
    DagsterHistory(instance).show([])
    assert DagsterHistory(instance).grid() == Grid(10)
    DagsterHistory(instance).forget()
    assert DagsterHistory(instance).grid() is None


def test_a_partition_recorded_without_a_version_is_not_finished(instance):
    publish(instance, FIRST)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(STREAM_KEY, partition=SECOND, tags={DATA_VERSION: "by-hand"})
    )
    instance.report_runless_asset_event(dg.AssetMaterialization(STREAM_KEY, partition=THIRD))
    assert DagsterHistory(instance).finished() == {FIRST: Finished("import", "place:digest")}


def test_contents_returns_the_latest_digest_of_each_partition(instance):
    for key, digest in ((FIRST, "a"), (SECOND, "b"), (FIRST, "c")):
        instance.report_runless_asset_event(
            dg.AssetMaterialization(HISTORY_KEY, partition=key, tags={DATA_VERSION: digest})
        )
    assert DagsterHistory(instance).contents() == {FIRST: "c", SECOND: "b"}
    assert DagsterHistory(instance).finished() == {}


def test_forgetting_partitions_deletes_their_records_and_counts_them(instance):
    DagsterHistory(instance).show([FIRST, SECOND, "other"])
    publish(instance, FIRST)
    assert DagsterHistory(instance).forget() == 3
    assert known(instance) == []
    assert DagsterHistory(instance).finished() == {}
    assert DagsterHistory(instance).forget() == 0


def test_a_partition_key_without_a_width_is_skipped(instance):
    last = Grid(7).partition_of(LAST_GRID_ID).key
    DagsterHistory(instance).show([last, "other"])
    assert DagsterHistory(instance).grid() is None
    DagsterHistory(instance).show([Grid(7).partition_of(1).key, last, "other"])
    assert DagsterHistory(instance).grid() == Grid(7)


CONTENT = PartitionContent(Grid(10).partition_of(11), 2, "digest-2", (1_700_000_000, 1_700_000_060))
FINISHED = Finished("import-1", "place:digest-2")


def receipt_of(content):
    """Return a receipt of two rows: one published, one already on the stream."""
    lines = [
        {"source_row_id": 11, "outcome": PUBLISHED},
        {"source_row_id": 12, "outcome": DUPLICATE},
    ]
    rows = pa.Table.from_pylist(lines, schema=ROWS)
    return Receipt("import-1", content.key, "default", datetime(2026, 1, 1), rows, 17, 0.5)


def latest(instance, asset):
    (record,) = instance.fetch_materializations(asset, limit=1).records
    found = record.asset_materialization
    return found.partition, {name: value.value for name, value in found.metadata.items()}


def test_a_recorded_partition_is_finished_and_counts_its_outcomes(instance):
    recording = DagsterHistory(instance)
    recording.record(receipt_of(CONTENT), CONTENT, FINISHED)
    assert recording.finished() == DagsterHistory(instance).finished() == {CONTENT.key: FINISHED}
    assert DagsterHistory(instance).contents() == {CONTENT.key: "digest-2"}
    partition, facts = latest(instance, STREAM_KEY)
    assert partition == CONTENT.key
    assert (facts["published"], facts["duplicate_acks"]) == (1, 1)
    assert (facts["import_id"], facts["last_stream_sequence"]) == ("import-1", 17)
    partition, facts = latest(instance, HISTORY_KEY)
    assert partition == CONTENT.key
    assert facts["dagster/partition_row_count"] == 2
    assert (facts["first_id"], facts["last_id"]) == (11, 12)


def test_a_publication_to_one_server_keeps_those_to_others(instance):
    """A run records with another object than the one that the import was planned with."""
    content = PartitionContent(Grid(10).partition_of(1), 10, "digest")
    for server in ("a", "b"):
        done = Finished(f"import-{server}", f"{server}:digest")
        DagsterHistory(instance).record(receipt_of(content), content, done)
    for server in ("a", "b"):
        found = DagsterHistory(instance).finished(server)
        assert [one.import_id for one in found.values()] == [f"import-{server}"]


def test_a_history_counts_only_the_partitions_it_recorded(instance):
    recording, other = DagsterHistory(instance), DagsterHistory(instance)
    recording.record(receipt_of(CONTENT), CONTENT, FINISHED)
    assert recording.published == {CONTENT.partition}
    assert other.published == set()
    assert other.finished() == {CONTENT.key: FINISHED}


def test_a_partition_recorded_in_a_run_is_logged_as_events_of_that_run(instance):
    logged = []
    DagsterHistory(instance, logged.append).record(receipt_of(CONTENT), CONTENT, FINISHED)
    assert [(event.asset_key, event.partition) for event in logged] == [
        (HISTORY_KEY, CONTENT.key),
        (STREAM_KEY, CONTENT.key),
    ]
    assert [event.tags[DATA_VERSION] for event in logged] == ["digest-2", str(FINISHED)]
    assert DagsterHistory(instance).finished() == {}


def test_recording_a_partition_again_replaces_its_version(instance):
    recording = DagsterHistory(instance)
    recording.record(receipt_of(CONTENT), CONTENT, FINISHED)
    later = Finished("import-2", "place:digest-3")
    changed = replace(CONTENT, digest="digest-3")
    recording.record(receipt_of(changed), changed, later)
    assert recording.finished() == {CONTENT.key: later}
    assert DagsterHistory(instance).contents() == {CONTENT.key: "digest-3"}


def test_a_history_shows_partitions_and_returns_their_grid(instance):
    recording = DagsterHistory(instance)
    assert (recording.grid(), recording.finished()) == (None, {})
    recording.show([SECOND, FIRST])
    assert known(instance) == [FIRST, SECOND]
    assert recording.grid() == Grid(10)
    recording.show([FIRST])
    assert known(instance) == [FIRST]


def test_last_materialized_at_is_in_utc(instance):
    assert last_materialized_at(instance) == datetime(1970, 1, 1)
    for _ in range(2):
        before = datetime.now(UTC).replace(tzinfo=None)
        instance.report_runless_asset_event(dg.AssetMaterialization(TABLE_KEY))
        after = datetime.now(UTC).replace(tzinfo=None)
        assert before <= last_materialized_at(instance) <= after


def test_an_observation_does_not_count_as_a_materialization(instance):
    instance.report_runless_asset_event(dg.AssetObservation(TABLE_KEY))
    assert last_materialized_at(instance) == datetime(1970, 1, 1)


grid_keys = st.sets(st.integers(0, 9).map(lambda n: Grid(10).partition_of(10 * n).key), max_size=4)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.booleans(), grid_keys), min_size=1, max_size=3))
def test_shown_partitions_are_always_unique_and_in_order(instance, steps):
    DagsterHistory(instance).show([])
    expected = set()
    for only, keys in steps:
        expected = keys if only else expected | keys
        DagsterHistory(instance).show(expected)
        assert known(instance) == sorted(expected)


def run_in_family(instance, parent=None, *, status=dg.DagsterRunStatus.FAILURE):
    """Create a new run, or a retry of `parent`."""
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


def test_a_retry_skips_what_earlier_attempts_published(instance, monkeypatch):
    monkeypatch.setattr(history, "_PAGE", 1)  # more than one page of events
    first = run_in_family(instance)
    publish_in(instance, first, FIRST)
    publish_in(instance, run_in_family(instance), THIRD)  # an unrelated run
    second = run_in_family(instance, first)
    publish_in(instance, second, SECOND)
    third = run_in_family(instance, second, status=dg.DagsterRunStatus.STARTED)
    assert published_before(instance, third) == {FIRST, SECOND}


def test_a_new_run_or_a_rerun_of_a_success_publishes_everything_again(instance):
    first = run_in_family(instance)
    publish_in(instance, first, FIRST)
    assert published_before(instance, run_in_family(instance)) == set()
    # A re-execution of a successful run is a new request.
    done = run_in_family(instance, first, status=dg.DagsterRunStatus.SUCCESS)
    publish_in(instance, done, SECOND)
    assert published_before(instance, run_in_family(instance, done)) == set()


def test_a_retry_whose_parent_was_deleted_publishes_everything(instance):
    first = run_in_family(instance)
    second = run_in_family(instance, first)
    publish_in(instance, first, FIRST)
    third = run_in_family(instance, second)
    instance.delete_run(second.run_id)
    assert published_before(instance, third) == set()
