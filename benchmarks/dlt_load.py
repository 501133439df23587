"""Loads the history tables into DuckDB with dlt; runs in a separate virtual environment."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt
from dlt.sources.sql_database import sql_database

_TABLES = ("session_history", "session_history_metadata", "session_history_media_info")


def main() -> None:
    """Load with a merge on the ids, and print the result as JSON."""
    database, folder = (Path(argument).resolve() for argument in sys.argv[1:])
    # This backend accepts '' in an INTEGER column, which Tautulli writes.
    source = sql_database(f"sqlite:///{database}", table_names=list(_TABLES), backend="sqlalchemy")
    for table in _TABLES:
        source.resources[table].apply_hints(write_disposition="merge", primary_key="id")
    pipeline = dlt.pipeline(
        "history",
        destination=dlt.destinations.duckdb(str(folder / "dlt.duckdb")),
        pipelines_dir=str(folder / "pipelines"),
    )
    begun_at = time.perf_counter()
    pipeline.run(source)
    seconds = time.perf_counter() - begun_at
    rows = pipeline.last_trace.last_normalize_info.row_counts[_TABLES[0]]
    result = {"seconds": seconds, "rows": rows, "version": dlt.__version__}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
