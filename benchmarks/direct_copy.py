"""DuckDB's direct copy of the rows joined inside SQLite, all as text: the practical limit."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb

from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.source.reader import load_sqlite_scanner, open_reader
from tautulli_pipeline.source.schema import LARGEST_ID, read_schema


def measure(database: Path, folder: Path) -> dict[str, float]:
    """Return the seconds from the first read to the end of the checkpoint."""
    schema = read_schema(database, named=database)
    with open_reader(database, schema, named=database) as reader:
        query = reader._query
    with duckdb.connect(str(folder / "direct.duckdb")) as connection:
        load_sqlite_scanner(connection)
        source = quote_literal(str(database))
        connection.execute(f"ATTACH {source} AS source (TYPE sqlite, READ_ONLY)")
        everything = f"row(1::BIGINT, {LARGEST_ID}::BIGINT, {LARGEST_ID}::BIGINT)"
        begun_at = time.perf_counter()
        connection.execute(
            f"CREATE TABLE plays AS FROM sqlite_query('source', {query}, params = {everything})"
        )
        connection.execute("CHECKPOINT")
        return {"seconds": time.perf_counter() - begun_at}
