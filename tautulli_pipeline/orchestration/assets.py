"""The asset graph: tautulli_database -> session_history -> playback_stream -> playback_events."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import dagster as dg
from duckdb import DuckDBPyConnection

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, REJECTED, UNREADABLE, Receipt
from tautulli_pipeline.imports.session import PublishingHalf
from tautulli_pipeline.orchestration.partitions import HISTORY_KEY, PARTITIONS, STREAM_KEY
from tautulli_pipeline.orchestration.resources import Warehouse

DATABASE_KEY = dg.AssetKey("tautulli_database")


class Publishing(Protocol):
    """Where the op gets the publishing half of an import."""

    def open(self, instance: dg.DagsterInstance) -> AbstractContextManager[PublishingHalf]:
        """The half, which knows what is due."""


class Consuming(Protocol):
    """The consuming half, as the asset uses it."""

    def consume(self, connection: DuckDBPyConnection) -> dict[str, Any]:
        """Consume until told to end; gives facts for the materialization."""


tautulli_database = dg.AssetSpec(
    DATABASE_KEY,
    description="The Tautulli database file; read through a private copy and never written.",
    group_name="tautulli",
    kinds={"sqlite"},
)


@dg.op(
    ins={"tautulli_database": dg.In(dg.Nothing)},
    out={
        "session_history": dg.Out(dg.Nothing, is_required=False),
        "playback_stream": dg.Out(dg.Nothing, is_required=False),
    },
    pool="publishing",
)
def publish_partitions(
    context: dg.OpExecutionContext, publishing: dg.ResourceParam[Publishing]
) -> Iterator[dg.AssetMaterialization]:
    """Publish each due partition and record it the moment its PubAcks are in."""
    with _stop_as_cancellation(context), publishing.open(context.instance) as half:
        if context.has_partition_key or context.has_partition_key_range:
            half.choose(context.partition_keys)
        context.log_event(dg.AssetObservation(DATABASE_KEY, metadata=half.describe()))
        for receipt, finished in half.receipts():
            yield from _materializations(receipt, finished)


# Both come of one op: a run over no range of partitions fails on a partitioned input.
playback_stream = dg.AssetsDefinition.from_op(
    publish_partitions,
    keys_by_input_name={"tautulli_database": DATABASE_KEY},
    keys_by_output_name={"session_history": HISTORY_KEY, "playback_stream": STREAM_KEY},
    internal_asset_deps={"session_history": {DATABASE_KEY}, "playback_stream": {HISTORY_KEY}},
    partitions_def=PARTITIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="tautulli",
    descriptions_by_output_name={
        "session_history": "Plays by id range, joined with their metadata and media info, "
        "in Arrow tables.",
        "playback_stream": "Playback events on the JetStream stream, published by id range.",
    },
    tags_by_output_name={
        "session_history": {"dagster/kind/sqlite": "", "dagster/kind/arrow": ""},
        "playback_stream": {"dagster/kind/nats": ""},
    },
)


@dg.asset(
    deps=[dg.AssetDep(STREAM_KEY, partition_mapping=dg.AllPartitionMapping())],
    description="One row for each distinct play, deduplicated, in the DuckDB warehouse.",
    group_name="tautulli",
    kinds={"duckdb"},
    pool="duckdb",
)
def playback_events(
    warehouse: Warehouse, consuming: dg.ResourceParam[Consuming]
) -> dg.MaterializeResult[None]:
    """Consume the stream into the table."""
    with warehouse.get_connection() as connection:
        return dg.MaterializeResult(metadata=consuming.consume(connection))


@contextmanager
def _stop_as_cancellation(context: dg.OpExecutionContext) -> Iterator[None]:
    """Record a deliberate stop as a canceled run rather than a failed one."""
    try:
        yield
    except (StoppedError, CancelledError):
        context.instance.report_run_canceling(context.run)
        raise


def _materializations(receipt: Receipt, finished: Finished) -> Iterator[dg.AssetMaterialization]:
    outcomes = receipt.rows["outcome"].to_pylist()
    ids = receipt.rows["source_row_id"].drop_null().to_pylist()
    read = {
        "dagster/partition_row_count": len(outcomes),
        "first_id": ids[0] if ids else 0,
        "last_id": ids[-1] if ids else 0,
    }
    yield dg.AssetMaterialization(HISTORY_KEY, partition=receipt.partition_key, metadata=read)
    published = {
        "rows_read": len(outcomes) - outcomes.count(UNREADABLE),
        "published": outcomes.count(PUBLISHED),
        "duplicate_acks": outcomes.count(DUPLICATE),
        "rejected": outcomes.count(REJECTED),
        "unreadable": outcomes.count(UNREADABLE),
        "import_id": receipt.import_id,
        "last_stream_sequence": receipt.last_sequence,
    }
    yield dg.AssetMaterialization(
        STREAM_KEY,
        partition=receipt.partition_key,
        metadata=published,
        tags={"dagster/data_version": str(finished)},
    )
