"""The analytics: one op builds every table of `analytics.duckdb`, each as an asset of its own."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import dagster as dg
from dagster_duckdb import DuckDBResource

from tautulli_pipeline.analytics.building import Built, build_in_process
from tautulli_pipeline.analytics.catalog import TABLES, Table
from tautulli_pipeline.analytics.inputs import request_for
from tautulli_pipeline.analytics.soundness import problems_of
from tautulli_pipeline.orchestration.column_schemas import SCHEMA, TABLE_KEY
from tautulli_pipeline.orchestration.instance import WAREHOUSE_POOL
from tautulli_pipeline.orchestration.report import REPORT, Reporting, materialized
from tautulli_pipeline.orchestration.stops import fault_as_failure, stop_as_cancellation
from tautulli_pipeline.settings import load_standing_settings

_OWNERS: Final = ("team:tautulli",)
_CHECK: Final = "is_sound"

# Builds what has changed.
Building = Callable[[], Built]
# Returns charts as Markdown, by table.
Charting = Callable[[], dict[str, str]]


def key_of(name: str) -> dg.AssetKey:
    """Return the key of a table; `playback_events` is in the warehouse."""
    return TABLE_KEY if name == TABLE_KEY.to_user_string() else dg.AssetKey(["analytics", name])


def _schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        [dg.TableColumn(name, table.type(name), table.comment(name)) for name in table.columns]
    )


def _spec(table: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        key_of(table.name),
        deps=[key_of(name) for name in table.built_from],
        description=f"{table.description}\n\n**Next:** open `analytics.duckdb` in the data "
        f"directory with `read_only=True`, and query the table `{table.name}`.",
        group_name=table.group,
        owners=[*_OWNERS],
        kinds={"duckdb", "sql"},
        skippable=True,
        metadata={SCHEMA: _schema(table)},
    )


ANALYTICS_KEYS: Final = tuple(key_of(table.name) for table in TABLES)


@dg.multi_asset(specs=[*(_spec(table) for table in TABLES), REPORT], pool=WAREHOUSE_POOL)
def analytics(
    context: dg.AssetExecutionContext,
    building: dg.ResourceParam[Building],
    charting: dg.ResourceParam[Charting],
    reporting: dg.ResourceParam[Reporting],
) -> Iterator[dg.MaterializeResult[None]]:
    """Build every table and write the report, unless nothing that they come from has changed."""
    with stop_as_cancellation(context), fault_as_failure():
        built = building()
    if built.rows is None:
        context.log.info("the analytics are built from what is there now; nothing was built")
    charts = charting() if built.rows else {}
    for name, rows in (built.rows or {}).items():
        metadata: dict[str, Any] = {"dagster/row_count": rows, "build_seconds": built.seconds}
        if name in charts:
            metadata["chart"] = dg.MetadataValue.md(charts[name])
        yield dg.MaterializeResult(asset_key=key_of(name), metadata=metadata)
    # The command line builds the tables without the report.
    if (report := reporting()) is not None:
        yield materialized(*report)


class Analytics(DuckDBResource):
    """The file of the analytics as a dagster-duckdb resource, opened to read."""

    database: str = ""

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - the resource's own fields
        file = load_standing_settings().layout.analytics
        config = {"access_mode": "READ_ONLY", "memory_limit": "256MB", "threads": 2}
        super().__init__(**{"database": str(file), "connection_config": config, **fields})


@dg.multi_asset_check(
    name="analytics_checks",
    specs=[
        dg.AssetCheckSpec(
            _CHECK,
            asset=key_of(table.name),
            description="No key occurs twice, no time is negative"
            + (", and the plays add up to those in `plays`." if table.counted else "."),
        )
        for table in TABLES
    ],
)
def analytics_checks(analytics: dg.ResourceParam[Analytics]) -> Iterator[dg.AssetCheckResult]:
    """Check every table of the file."""
    with analytics.get_connection() as connection:
        for table in TABLES:
            problems = list(problems_of(connection, table))
            is_recorded = all(problem.is_recorded for problem in problems)
            yield dg.AssetCheckResult(
                check_name=_CHECK,
                asset_key=key_of(table.name),
                passed=not problems,
                severity=dg.AssetCheckSeverity.WARN if is_recorded else dg.AssetCheckSeverity.ERROR,
                metadata={"problems": [problem.words for problem in problems]} if problems else {},
            )


@dg.resource(description="Builds the tables of `analytics.duckdb` that are out of date.")
def building(_context: dg.InitResourceContext) -> Building:
    """Return the function that builds them."""
    return lambda: build_in_process(request_for(load_standing_settings()))


@dg.resource(description="Draws the charts of the analytics.")
def charting(context: dg.InitResourceContext) -> Charting:
    """Return the function that draws them; a chart that fails does not fail the build."""

    def draw() -> dict[str, str]:
        from tautulli_pipeline.analytics.charts import draw_charts

        try:
            with Analytics().get_connection() as connection:
                return draw_charts(connection)
        except Exception as error:
            assert context.log is not None
            context.log.warning(f"the charts could not be drawn: {error!r}")
            return {}

    return draw


@dg.resource(description="The DuckDB file `analytics.duckdb`, opened to read.")
def analytics_file(_context: dg.InitResourceContext) -> Analytics:
    """Return the resource that opens the file."""
    return Analytics()
