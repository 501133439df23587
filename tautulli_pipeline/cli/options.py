"""Options and arguments that many commands take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.settings import Settings

# Whether it was given, `faults` finds out: a command may fail before its options are parsed.
DEBUG = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    help="Show logs and tracebacks on stderr.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--debug` and `--json`."""
    return DEBUG(_JSON(command))


def database_path(settings: Settings, given: Path | None) -> Path:
    """The database to read.

    Raises:
        ConfigurationError: neither the argument nor IMPORT_DB_PATH names one.
    """
    path = given or settings.import_db_path
    if path is None:
        raise ConfigurationError(
            "no database given", hint="name one, as in `import tautulli.db`, or set IMPORT_DB_PATH"
        )
    # A name that only looks like somebody's home is a name.
    with suppress(RuntimeError):
        return path.expanduser()
    return path
