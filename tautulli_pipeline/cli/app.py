"""The commands and their options. What they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tautulli_pipeline.cli.auditing import duplicate_commands, letter_commands
from tautulli_pipeline.cli.options import DEBUG, output_options
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, load_settings

# Whether it can be read is for the source to find out: it has an exit code of its own.
_DATABASE = click.argument(
    "database", metavar="[DB]", required=False, type=click.Path(path_type=Path, readable=False)
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(package_name="tautulli-pipeline")
@DEBUG
def application() -> None:
    """Bring a Tautulli history into DuckDB, whole and without duplicates."""


@application.command("import")
@_DATABASE
@click.option("--batch-size", type=click.IntRange(1, 100_000), help="Records per batch.")
@click.option("--dry-run", is_flag=True, help="Say what would be imported; import nothing.")
@click.option("--fresh", is_flag=True, help="Import every play again; the table stays.")
@click.option("--salvage", is_flag=True, help="Import what is readable in a damaged file.")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    default=WAREHOUSE_WAIT_SECONDS,
    show_default=True,
    help="How long to wait for another program that has the DuckDB file open.",
)
@output_options
def import_command(
    *,
    database: Path | None,
    batch_size: int | None,
    dry_run: bool,
    **options: Any,  # noqa: ANN401 - each has its type above
) -> None:
    """Import DB: a tautulli.db or plexpy.db, or one of Tautulli's .zip backups.

    Without DB, IMPORT_DB_PATH names it. An import that was stopped or killed
    is resumed.
    """
    from tautulli_pipeline.cli.importing import run_import

    settings = load_settings()
    if batch_size is not None:
        settings = settings.model_copy(update={"import_batch_size": batch_size})
    run_import(settings, database, dry_run=dry_run or settings.import_dry_run, **options)


@application.command(short_help="Say what an import of DB would do; write nothing.")
@_DATABASE
@output_options
def validate(*, database: Path | None, as_json: bool) -> None:
    """Read everything in DB and say what an import would do; write nothing."""
    from tautulli_pipeline.cli.validating import run_validate

    run_validate(load_settings(), database, as_json=as_json)


@application.command()
@output_options
def status(*, as_json: bool) -> None:
    """Show the progress of the running or last import."""
    from tautulli_pipeline.cli.reporting import show_status

    show_status(load_settings(), as_json=as_json)


@application.command()
@output_options
def stop(*, as_json: bool) -> None:
    """Ask the running import to stop after the batch in hand.

    It can be resumed by importing again.
    """
    from tautulli_pipeline.cli.controlling import run_stop

    run_stop(load_settings(), as_json=as_json)


@application.command(short_help="Forget saved progress; the table stays.")
@output_options
def reset(*, as_json: bool) -> None:
    """Forget how far imports have come; the table, audit and ledger stay.

    The next import covers every play again and finds those that are there already.
    """
    from tautulli_pipeline.cli.controlling import run_reset

    run_reset(load_settings(), as_json=as_json)


@application.command(short_help="Serve Dagster's UI, its daemon and the stream.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@DEBUG
def up(*, port: int) -> None:
    """Serve Dagster's UI on this machine, with its daemon and the stream server.

    Ctrl-C ends all of them; what is under way then can be resumed.
    """
    from tautulli_pipeline.cli.serving import run_up

    run_up(load_settings(), port)


@application.command()
@click.option("--rows", type=click.IntRange(1, 10_000_000), default=10_000, show_default=True)
@output_options
def demo(*, rows: int, as_json: bool) -> None:
    """Make a Tautulli-shaped database and import it."""
    from tautulli_pipeline.cli.importing import run_demo

    run_demo(load_settings(), rows, as_json=as_json)


application.add_command(duplicate_commands)
application.add_command(letter_commands)
