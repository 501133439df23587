"""Makes `analytics.duckdb` up to date before somebody reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tautulli_pipeline.analytics.building import build_in_process
from tautulli_pipeline.analytics.inputs import is_current, request_for
from tautulli_pipeline.data_dir.directory import explained_faults, make_data_dir
from tautulli_pipeline.errors import AnalyticsError, ConfigurationError
from tautulli_pipeline.settings import Settings


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
        AnalyticsError: there is no file, and it cannot be built.
    """
    request, file = request_for(settings), settings.layout.analytics
    if not is_current(request):
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
