"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from tautulli_pipeline.cli.lines import print_notice
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.private_folder import remove_stale_snapshots

# `faults` looks for it in the arguments: a command can fail before its options are parsed.
DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show logs and tracebacks on stderr."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--debug` and `--json`."""
    return DEBUG(_JSON(command))


def tidied(settings: Settings) -> Settings:
    """Remove the copies of the source that killed processes left in the data directory."""
    try:
        remove_stale_snapshots(settings.layout.snapshots)
    except ConfigurationError as error:
        print_notice(f"{error.message}; {error.hint}")
    return settings


def database_path(settings: Settings, given: Path | None) -> Path:
    """Return the given path, or that of IMPORT_DB_PATH; raise if there is neither."""
    path = given or settings.import_db_path
    if path is None:
        raise ConfigurationError(
            "no database given",
            hint="pass its path, as in `import tautulli.db`, or set IMPORT_DB_PATH",
        )
    # `~name` is a file name if there is no such user.
    with suppress(RuntimeError):
        return path.expanduser()
    return path
