"""What runs are given to work with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from dagster_duckdb import DuckDBResource

from tautulli_pipeline.warehouse.schema import open_warehouse


class Warehouse(DuckDBResource):
    """dagster-duckdb's resource that says at once who holds the file.

    The one it derives from tries for 102 seconds to open a locked file.
    """

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The one connection that writes, with the schema up to date.

        Raises:
            WarehouseError: another process holds the file, or it cannot be written.
        """
        config = {"custom_user_agent": "dagster", **self.connection_config}
        with open_warehouse(Path(self.database), config) as connection:
            yield connection
