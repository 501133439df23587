"""What has to be true of `playback_events` after every run; a failing check names the rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dagster as dg
from duckdb import DuckDBPyConnection

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.stream.position import read_position
from tautulli_pipeline.warehouse.integrity import (
    backward_plays,
    misnamed_events,
    position_on,
    repeated_keys,
    unbalanced_partitions,
)
from tautulli_pipeline.warehouse.reading import Listing


@dataclass(frozen=True)
class _Rule:
    """One check of the tables; `find` gives what breaks it."""

    name: str
    description: str
    find: Callable[[DuckDBPyConnection], Listing]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


_RULES = (
    _Rule(
        "outcomes_add_up",
        "Each partition's imported, duplicate, rejected and unreadable rows are the source's "
        "rows, and the table and the dead letters hold what the ledger counts.",
        unbalanced_partitions,
    ),
    _Rule(
        "no_key_twice",
        "No event id, correlation key, or item with user and start is there twice, but for "
        "restored plays.",
        repeated_keys,
    ),
    _Rule(
        "event_ids_recompute",
        "Every imported play's id is made of its session key, start and user.",
        misnamed_events,
    ),
    _Rule(
        "no_play_ends_before_it_starts",
        "Plays that do are kept as Tautulli has them; see also the view suspicious_plays.",
        backward_plays,
        dg.AssetCheckSeverity.WARN,
    ),
)


@dg.multi_asset_check(
    name="playback_events_checks",
    specs=[
        dg.AssetCheckSpec(rule.name, asset=TABLE_KEY, description=rule.description)
        for rule in _RULES
    ],
    pool="duckdb",
)
def table_checks(warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
    """Look through the tables, once for each rule."""
    with warehouse.get_connection() as connection:
        for rule in _RULES:
            yield _result(rule, rule.find(connection))


def _result(rule: _Rule, offences: Listing) -> dg.AssetCheckResult:
    rows = [{name: str(value) for name, value in row.items()} for row in offences.rows]
    named = {"rows": dg.MetadataValue.json(rows)} if rows else {}
    return dg.AssetCheckResult(
        check_name=rule.name,
        asset_key=TABLE_KEY,
        passed=offences.total == 0,
        severity=rule.severity,
        metadata={"count": offences.total, **named},
    )


@dg.asset_check(
    asset=TABLE_KEY,
    description="The table is as far as the consumer has acknowledged the stream.",
    pool="duckdb",
)
def consumer_position_matches(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Compare the position in the table with the consumer's on the stream."""
    settings = load_settings()
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
        in_table = position_on(connection, position.stream_id)
    # What is committed and not acked comes again and changes nothing; what is acked and not
    # committed is gone.
    lost = in_table < position.acked_sequence
    return dg.AssetCheckResult(
        passed=in_table == position.acked_sequence,
        severity=dg.AssetCheckSeverity.ERROR if lost else dg.AssetCheckSeverity.WARN,
        metadata={
            "stream": position.stream_id,
            "in_table": in_table,
            "acked": position.acked_sequence,
            "last_of_stream": position.last_sequence,
            "undelivered": position.undelivered,
            "unacked": position.unacked,
        },
    )
