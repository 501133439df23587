"""The Dagster instance of a data directory. Imports resume from its storage."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import dagster as dg
from filelock import FileLock

from tautulli_pipeline.data_dir.layout import DataDir

QUIET: Final[dict[str, object]] = {
    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
}
# The runs of a pool wait for each other: those that import one of several servers, and those that
# open the warehouse.
IMPORT_POOL: Final = "tautulli_import"
WAREHOUSE_POOL: Final = "duckdb"
COMMAND_LINE_TAGS: Final[Mapping[str, str]] = {
    "tautulli_pipeline/started_by": "command line",
    # The run ends with its process; the daemon cannot retry it.
    "dagster/max_retries": "0",
}


@contextmanager
def open_instance(data_dir: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance whose storage is in `data_dir`."""
    os.environ["PIPELINE_DATA_DIR"] = str(data_dir)
    # Two processes that open new storage at the same time both try to create its tables.
    with (
        FileLock(DataDir(data_dir).dagster_lock, mode=0o600),
        as_file(files("tautulli_pipeline") / "dagster.yaml") as config,
    ):
        instance = dg.DagsterInstance.from_config(str(config.parent), config.name)
    with instance:
        yield instance


def limit_pools(instance: dg.DagsterInstance) -> None:
    """Limit each pool now: otherwise Dagster does not, for the runs that it starts first."""
    storage = instance.event_log_storage
    for pool in {IMPORT_POOL, WAREHOUSE_POOL} - storage.get_concurrency_keys():
        storage.initialize_concurrency_limit_to_default(pool)


def dagster_home(data_dir: Path) -> dict[str, str]:
    """Write `dagster.yaml` to `data_dir`; return the environment for Dagster's own programs."""
    config = (files("tautulli_pipeline") / "dagster.yaml").read_text()
    DataDir(data_dir).dagster_config.write_text(config)
    home = {"DAGSTER_HOME": str(data_dir), "PIPELINE_DATA_DIR": str(data_dir)}
    # Otherwise a file in the current directory could shadow a module.
    return {**os.environ, **home, "PYTHONSAFEPATH": "1"}
