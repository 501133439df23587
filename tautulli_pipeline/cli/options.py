"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tautulli_pipeline.cli.lines import print_notice
from tautulli_pipeline.configuration import is_address
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.sources import resolve_source
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Source
from tautulli_pipeline.source.private_folder import remove_stale_snapshots

# `faults` looks for it in the arguments: a command can fail before its options are parsed.
DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show logs and tracebacks on stderr."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


SERVER = click.option(
    "--server", metavar="ID", help="A server of pipeline.toml; by default, all of them."
)


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


class SourceParameter(click.Path):
    """A path, or the address of a running Tautulli as it is."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401 - as in click
        """Return a `Path`, or an address as text."""
        if isinstance(value, str) and is_address(value):
            return value
        return super().convert(value, param, ctx)


def database_path(settings: Settings, given: Path | str | None) -> Source:
    """Return the given source, or that of IMPORT_DB_PATH; raise if there is neither."""
    source = given or settings.import_db_path
    if source is None:
        raise ConfigurationError(
            "no database given",
            hint="pass its path, as in `import tautulli.db`, or set IMPORT_DB_PATH",
        )
    return resolve_source(settings, source)
