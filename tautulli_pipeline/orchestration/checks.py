"""Asset checks of `playback_events`. A failing check lists the offending rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.instance import WAREHOUSE_POOL
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.settings import load_standing_settings
from tautulli_pipeline.stream.session import read_position
from tautulli_pipeline.warehouse.integrity import (
    BACKWARD_PLAYS,
    MISNAMED_EVENTS,
    REPEATED_KEYS,
    UNBALANCED_PARTITIONS,
    position_on,
)
from tautulli_pipeline.warehouse.reading import Listing, Page, list_found

_FIRST = Page(20)


@dataclass(frozen=True)
class _Rule:
    """One check of the tables; `violations` is SQL for the rows that violate it."""

    name: str
    description: str
    violations: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


_RULES = (
    _Rule(
        "outcomes_add_up",
        "In each partition, the imported, duplicate, rejected and unreadable rows add up to the "
        "source's rows, and the table and the dead letters match the counts in the ledger.",
        UNBALANCED_PARTITIONS,
    ),
    _Rule(
        "no_key_twice",
        "No event id, correlation key, or combination of item, user and start occurs twice, "
        "except in restored plays.",
        REPEATED_KEYS,
    ),
    _Rule(
        "event_ids_recompute",
        "Every imported play has the id that its session key, start and user produce.",
        MISNAMED_EVENTS,
    ),
    _Rule(
        "no_play_ends_before_it_starts",
        "No play stops before it starts. Such plays are kept as Tautulli recorded them; the view "
        "suspicious_plays lists them too.",
        BACKWARD_PLAYS,
        dg.AssetCheckSeverity.WARN,
    ),
)


@dg.multi_asset_check(
    name="playback_events_checks",
    specs=[
        dg.AssetCheckSpec(rule.name, asset=TABLE_KEY, description=rule.description)
        for rule in _RULES
    ],
    pool=WAREHOUSE_POOL,
)
def table_checks(warehouse: dg.ResourceParam[Warehouse]) -> Iterator[dg.AssetCheckResult]:
    """Run each rule over the tables."""
    with warehouse.get_connection() as connection:
        for rule in _RULES:
            yield _result(rule, list_found(connection, rule.violations, _FIRST))


def _result(rule: _Rule, found: Listing) -> dg.AssetCheckResult:
    rows = [{name: str(value) for name, value in row.items()} for row in found.rows]
    listed = {"rows": dg.MetadataValue.json(rows)} if rows else {}
    return dg.AssetCheckResult(
        check_name=rule.name,
        asset_key=TABLE_KEY,
        passed=found.total == 0,
        severity=rule.severity,
        metadata={"count": found.total, **listed},
    )


@dg.asset_check(
    asset=TABLE_KEY,
    description="The stream position stored with the table equals the position that the durable "
    "consumer has acknowledged.",
    pool=WAREHOUSE_POOL,
)
def consumer_position_matches(warehouse: dg.ResourceParam[Warehouse]) -> dg.AssetCheckResult:
    """Compare the position stored with the table with the consumer's ack position."""
    settings = load_standing_settings()
    position = None
    try:
        if settings.nats_url is not None or settings.layout.stream.is_dir():
            with stream_address(settings) as address:
                position = read_position(address)
    except StreamError as error:
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{error.message}; {error.hint}",
        )
    if position is None:
        return dg.AssetCheckResult(passed=True, description="there is no stream yet")
    with warehouse.get_connection() as connection:
        stored = position_on(connection, position.stream_id)
    # Events that are committed but not acked are redelivered and change nothing. Events that
    # are acked but not committed are lost.
    lost = stored < position.acked_sequence
    return dg.AssetCheckResult(
        passed=stored == position.acked_sequence,
        severity=dg.AssetCheckSeverity.ERROR if lost else dg.AssetCheckSeverity.WARN,
        metadata={
            "stream": position.stream_id,
            # As text: Dagster plots numbers, and these say nothing about amounts.
            "stored_position": str(stored),
            "acked_position": str(position.acked_sequence),
            "last_position": str(position.last_sequence),
            "undelivered": position.undelivered,
            "unacked": position.unacked,
        },
    )
