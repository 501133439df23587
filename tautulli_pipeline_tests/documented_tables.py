"""`python -m tautulli_pipeline_tests.documented_tables` writes docs/tables.md from the catalogs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb

from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.warehouse.schema import open_warehouse

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"

_ABOUT = """\
# Tables and columns

This page is generated from the comments in the two DuckDB files. To see them in a file:

```sql
SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal;
```

- [The warehouse](#the-warehouse), `playback.duckdb`: what was imported, with times in UTC.
- [The statistics](#the-statistics), `analytics.duckdb`: tables built from it, in local time.
  [Statistics](analytics.md) explains how to use them.
"""

_OBJECTS = """
    SELECT table_name, comment FROM duckdb_tables() WHERE NOT internal
        AND database_name = current_database()
    UNION ALL SELECT view_name, comment FROM duckdb_views() WHERE NOT internal
        AND database_name = current_database()
    ORDER BY table_name
"""
_COLUMNS = """
    SELECT column_name, data_type, comment FROM duckdb_columns()
    WHERE table_name = ? AND database_name = current_database() ORDER BY column_index
"""


def page() -> str:
    """Return the whole page."""
    parts = [_ABOUT, "## The warehouse\n", *_warehouse(), "## The statistics\n", *_statistics()]
    return "\n".join(parts)


def _warehouse() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_warehouse(Path(folder) / "playback.duckdb") as connection,
    ):
        for name, comment in connection.execute(_OBJECTS).fetchall():
            yield _section(name, comment, _columns_of(connection, name))


def _columns_of(
    connection: duckdb.DuckDBPyConnection, table: str
) -> list[tuple[str, str, str | None]]:
    return connection.execute(_COLUMNS, [table]).fetchall()


def _statistics() -> Iterator[str]:
    for table in TABLES:
        columns = ((name, table.type(name), table.comment(name)) for name in table.columns)
        yield _section(table.name, table.description, columns)


def _section(name: str, comment: str | None, columns: Iterable[tuple[str, str, str | None]]) -> str:
    rows = [f"| `{column}` | {kind} | {_cell(text)} |" for column, kind, text in columns]
    heading = f"### {name}\n\n{comment or ''}\n\n| column | type | meaning |\n|---|---|---|\n"
    return heading + "\n".join(rows) + "\n"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
