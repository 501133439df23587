"""The asset graph: tautulli_database -> session_history -> playback_stream -> playback_events."""

from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import dagster as dg

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.imports.session import PublishingHalf
from tautulli_pipeline.orchestration import column_schemas
from tautulli_pipeline.orchestration.column_schemas import DATABASE_KEY, HISTORY_KEY, STREAM_KEY
from tautulli_pipeline.orchestration.inspection import Inspecting, report_inspection
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS
from tautulli_pipeline.orchestration.partitions import DATA_VERSION, PARTITIONS, published_before
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.orchestration.run_tables import (
    Published,
    arrival_metadata,
    history_metadata,
    source_metadata,
    stream_metadata,
)
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.warehouse.arrivals import Arrivals

GROUP: Final = "tautulli"
OWNERS: Final = ("team:tautulli",)


@dataclass(frozen=True)
class Consumed:
    """What came of consuming.

    Attributes:
        arrivals: what came into the warehouse meanwhile.
        facts: what the materialization is to say besides.
    """

    arrivals: Arrivals
    facts: Mapping[str, Any] = field(default_factory=dict)


class Publishing(Protocol):
    """Where the op gets the publishing half of an import."""

    def open(self, instance: dg.DagsterInstance) -> AbstractContextManager[PublishingHalf]:
        """The half, which knows what is due."""


class Consuming(Protocol):
    """The consuming half, as the asset uses it."""

    def consume(self, warehouse: Warehouse) -> Consumed:
        """Consume until told to end."""


tautulli_database = dg.AssetSpec(
    DATABASE_KEY,
    description="The Tautulli database file. It is read through a private copy and never "
    "written; each import and dry run observes it.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite"},
    metadata=column_schemas.source_metadata(),
)


@dg.op(
    ins={"tautulli_database": dg.In(dg.Nothing)},
    out={
        "session_history": dg.Out(dg.Nothing, is_required=False),
        "playback_stream": dg.Out(dg.Nothing, is_required=False),
    },
)
def publish_partitions(
    context: dg.OpExecutionContext,
    publishing: dg.ResourceParam[Publishing],
    inspecting: dg.ResourceParam[Inspecting],
) -> Iterator[dg.AssetMaterialization]:
    """Publish each due partition and record it the moment its PubAcks are in.

    With `IMPORT_DRY_RUN` only say what an import would do.
    """
    if inspecting.dry_run:
        context.log.info("IMPORT_DRY_RUN is set: nothing is published")
        report_inspection(context, inspecting)
    else:
        _publish(context, publishing)
    # A generator that yields no output: a returned value would record every partition again.
    # Events are logged and not yielded, as a run that is terminated while Dagster has the
    # turn leaves the generator as it stands, with its source, locks and record open.
    yield from ()


def _publish(context: dg.OpExecutionContext, publishing: Publishing) -> None:
    with _stop_as_cancellation(context), publishing.open(context.instance) as half:
        if context.has_partition_key or context.has_partition_key_range:
            done = published_before(context.instance, context.run)
            half.choose([key for key in context.partition_keys if key not in done])
        if half.notice:
            context.log.warning(half.notice)
        _observe(context, half)
        published = Published()
        for receipt, finished in half.receipts():
            content = half.plan.contents[receipt.partition_key]
            facts = stream_metadata(receipt, content)
            published.add(receipt.partition_key, facts)
            context.log_event(_read(receipt, content))
            context.log_event(_published(receipt, content, finished, facts))
        _sum_up(context, half, published)


def _observe(context: dg.OpExecutionContext, half: PublishingHalf) -> None:
    facts = half.source.describe(half.plan.contents.values())
    version = {DATA_VERSION: facts.fingerprint}
    context.log_event(
        dg.AssetObservation(DATABASE_KEY, metadata=source_metadata(facts), tags=version)
    )


def _sum_up(context: dg.OpExecutionContext, half: PublishingHalf, published: Published) -> None:
    months = half.source.plays_by_month(published.keys)
    unchanged = half.coverage()["unchanged"]
    metadata = published.metadata(months, unchanged, drawn=_is_drawn(context.run))
    told = f"{len(published.keys):,} ranges published, {unchanged:,} plays unchanged."
    context.log_event(dg.AssetObservation(STREAM_KEY, metadata=metadata, description=told))


def _is_drawn(run: dg.DagsterRun) -> bool:
    """Whether a picture may be drawn; what draws it costs the command line too much."""
    return not COMMAND_LINE_TAGS.items() <= run.tags.items()


def _of_the_stream(spec: dg.AssetSpec) -> dg.AssetSpec:
    """What an op's asset cannot be given where it is made."""
    if spec.key == HISTORY_KEY:
        return spec.replace_attributes(owners=OWNERS, kinds={"sqlite", "arrow"}).merge_attributes(
            metadata=column_schemas.history_metadata()
        )
    return spec.replace_attributes(owners=OWNERS, kinds={"nats", "json"}).merge_attributes(
        metadata=column_schemas.stream_metadata()
    )


# Both come of one op: a run over no range of partitions fails on a partitioned input.
playback_stream = dg.AssetsDefinition.from_op(
    publish_partitions,
    keys_by_input_name={"tautulli_database": DATABASE_KEY},
    keys_by_output_name={"session_history": HISTORY_KEY, "playback_stream": STREAM_KEY},
    internal_asset_deps={"session_history": {DATABASE_KEY}, "playback_stream": {HISTORY_KEY}},
    partitions_def=PARTITIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    descriptions_by_output_name={
        "session_history": "Plays of Tautulli's history with their metadata and media info, "
        "read by ranges of ids as Arrow tables.",
        "playback_stream": "One event for each play on the JetStream stream, published by "
        "ranges of ids. A range is finished when all of its events are acknowledged.",
    },
).map_asset_specs(_of_the_stream)


@dg.asset(
    deps=[dg.AssetDep(STREAM_KEY, partition_mapping=dg.AllPartitionMapping())],
    description="One row for each distinct play in DuckDB. Duplicates are kept in "
    "`dedupe_audit_log`, what could not become an event in `dead_letters`.",
    group_name=GROUP,
    owners=[*OWNERS],
    kinds={"duckdb"},
    metadata=column_schemas.table_metadata(),
    pool="duckdb",
)
def playback_events(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    consuming: dg.ResourceParam[Consuming],
) -> dg.MaterializeResult[None]:
    """Consume the stream into the table."""
    with _stop_as_cancellation(context):
        consumed = consuming.consume(warehouse)
    metadata = arrival_metadata(consumed.arrivals, drawn=_is_drawn(context.run))
    return dg.MaterializeResult(metadata={**consumed.facts, **metadata})


@contextmanager
def _stop_as_cancellation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
) -> Iterator[None]:
    """Record a deliberate stop as a canceled run rather than a failed one."""
    try:
        yield
    except (StoppedError, CancelledError):
        context.instance.report_run_canceling(context.run)
        raise


def _read(receipt: Receipt, content: PartitionContent) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        HISTORY_KEY,
        partition=receipt.partition_key,
        metadata=history_metadata(receipt, content),
        tags={DATA_VERSION: content.digest},
    )


def _published(
    receipt: Receipt, content: PartitionContent, finished: Finished, metadata: dict[str, Any]
) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        STREAM_KEY,
        partition=receipt.partition_key,
        metadata=metadata,
        tags={DATA_VERSION: str(finished)},
    )
