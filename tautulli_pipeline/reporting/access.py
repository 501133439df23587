"""Opens what people read: `analytics.duckdb`, made up to date first, and the warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb

from tautulli_pipeline.analytics.building import build_in_process
from tautulli_pipeline.analytics.inputs import is_current, request_for
from tautulli_pipeline.data_dir.directory import explained_faults, make_data_dir
from tautulli_pipeline.errors import (
    AnalyticsError,
    ConfigurationError,
    WarehouseError,
    WarehouseVersionError,
)
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.warehouse.schema import explained, require_current

# One thread: several of them wait for each other when they write files, and take three times as
# long. Nothing is downloaded, and no variable of this program is taken for a table. Without a
# proxy, DuckDB would take that of the environment, which may have a password, as a setting.
_SETTINGS: Final[dict[str, Any]] = {
    "threads": 1,
    "memory_limit": "320MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "http_proxy": " ",
}


@contextmanager
def open_to_read(
    file: Path, *, locked: bool = False, output: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the analytics or the warehouse, read-only.

    Args:
        file: the database.
        locked: whether no other file can be read or written, and no setting changed.
        output: the one other file that can be written in spite of `locked`.

    Raises:
        WarehouseError: another program writes it, or it cannot be read.
    """
    # Beside the analytics, a build would remove what does not fit into memory.
    with TemporaryDirectory(prefix="tautulli-pipeline-") as folder:
        config = {**_SETTINGS, "temp_directory": folder}
        with explained(file, "read"):
            connection = duckdb.connect(file, read_only=True, config=config)
        with connection, _ctrl_c_noticed():
            if locked:
                _lock(connection, output)
            yield connection


def _lock(connection: duckdb.DuckDBPyConnection, output: str | None) -> None:
    if output is not None:
        connection.execute(f"SET allowed_paths = [{quote_literal(output)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextmanager
def _ctrl_c_noticed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Raised by DuckDB's binding for Python after Ctrl-C.
        if "interrupted" not in str(error).lower():
            raise
        raise KeyboardInterrupt from error


def require_current_warehouse(path: Path) -> None:
    """Refuse a warehouse of another version; one that cannot be read now is not refused.

    Raises:
        WarehouseVersionError: a newer version has changed it, or it has to be upgraded first.
    """
    try:
        with open_to_read(path) as connection:
            require_current(connection, path)
    except WarehouseVersionError:
        raise
    except (WarehouseError, duckdb.Error):
        pass  # whatever reads it next reports this


def nothing_imported(data_dir: Path) -> ConfigurationError:
    """Return the error for a data directory without plays."""
    return ConfigurationError(
        f"there are no plays in {data_dir} yet",
        hint="import a database first: `tautulli-pipeline import /path/to/tautulli.db`",
    )


def current_analytics(settings: Settings, say: Callable[[str], None]) -> Path:
    """Return the file of the analytics; build it first if it is missing or out of date.

    `say` receives a warning if it cannot be built and an older one is there.

    Raises:
        ConfigurationError: nothing has been imported yet.
        WarehouseVersionError: the warehouse is of another version.
        AnalyticsError: there is no file, and it cannot be built.
    """
    request, file = request_for(settings), settings.layout.analytics
    if not is_current(request):
        require_current_warehouse(request.warehouse)
        make_data_dir(settings)
        try:
            with explained_faults(settings.data_dir):
                build_in_process(request)
        except AnalyticsError as error:
            if not file.is_file():
                raise
            say(f"warning: {error.message}; these are the statistics of an earlier import")
    if not file.is_file():
        raise nothing_imported(settings.data_dir)
    return file
