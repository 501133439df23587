"""The commands and their options. Each command imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tautulli_pipeline.cli.auditing import duplicate_commands, letter_commands
from tautulli_pipeline.cli.options import DEBUG, SERVER, SourceParameter, output_options, tidied
from tautulli_pipeline.settings import (
    WAREHOUSE_WAIT_SECONDS,
    load_demo_settings,
    load_settings,
    load_standing_settings,
)

# The source module checks whether the file is readable: that has its own exit code.
_DATABASE = click.argument(
    "database", metavar="[DB]", required=False, type=SourceParameter(path_type=Path, readable=False)
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    invoke_without_command=True,
    no_args_is_help=True,
)
@click.option("--version", is_flag=True, help="Show the version and those of its main parts.")
@click.option("--json", "as_json", is_flag=True, help="With --version: print one JSON object.")
@DEBUG
@click.pass_context
def application(context: click.Context, *, version: bool, as_json: bool) -> None:
    """Import a Tautulli history into DuckDB, complete and without duplicates."""
    if version:
        from tautulli_pipeline.cli.versions import print_versions

        print_versions(as_json=as_json)
        context.exit()
    if context.invoked_subcommand is None:
        raise click.UsageError("Missing command.", context)


@application.command("import", short_help="Import a Tautulli database or backup.")
@_DATABASE
@SERVER
@click.option("--batch-size", type=click.IntRange(1, 100_000), help="Number of ids per batch.")
@click.option("--dry-run", is_flag=True, help="Report what would be imported; write nothing.")
@click.option("--fresh", is_flag=True, help="Import every play again; the table is kept.")
@click.option("--salvage", is_flag=True, help="Import the readable part of a damaged file.")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    default=WAREHOUSE_WAIT_SECONDS,
    show_default=True,
    help="Time to wait if another program has the DuckDB file open.",
)
@output_options
def import_command(
    *,
    database: Path | str | None,
    batch_size: int | None,
    dry_run: bool,
    server: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - the options above define the types
) -> None:
    """Import DB: a tautulli.db, a plexpy.db or a .zip backup made by Tautulli.

    DB can also be the address of a running Tautulli, such as http://nas:8181. Its
    key is read from TAUTULLI_API_KEY, or from the file TAUTULLI_API_KEY_FILE.

    DB defaults to IMPORT_DB_PATH, or to every server of pipeline.toml. If the
    last import was stopped or killed, this one resumes it.
    """
    from tautulli_pipeline.cli.importing import Wanted, run_import

    settings = tidied(load_settings())
    if batch_size is not None:
        settings = settings.model_copy(update={"import_batch_size": batch_size})
    run_import(
        settings,
        Wanted(database, **options),
        server=server,
        dry_run=dry_run or settings.import_dry_run,
        as_json=as_json,
    )


@application.command(short_help="Report what an import would do; write nothing.")
@_DATABASE
@SERVER
@output_options
def validate(*, database: Path | str | None, server: str | None, as_json: bool) -> None:
    """Read all of DB and report what an import would do; write nothing.

    DB defaults to IMPORT_DB_PATH.
    """
    from tautulli_pipeline.cli.validating import run_validate

    run_validate(tidied(load_settings()), database, server=server, as_json=as_json)


@application.command()
@output_options
def status(*, as_json: bool) -> None:
    """Show the progress of the current or last import."""
    from tautulli_pipeline.cli.status import show_status

    show_status(tidied(load_settings()), as_json=as_json)


@application.command(short_help="Exit with 0 only if the last import completed.")
@click.option(
    "--max-age",
    "max_age_hours",
    type=click.FloatRange(0),
    metavar="HOURS",
    help="Also fail if it completed longer ago than this.",
)
@output_options
def health(*, max_age_hours: float | None, as_json: bool) -> None:
    """Exit with 0 if the last import completed, and with 1 and the reason if not.

    While an import runs, the one before it counts. For monitoring: it takes a
    fraction of a second and disturbs nothing.
    """
    from tautulli_pipeline.cli.status import show_health

    show_health(load_settings(), max_age_hours, as_json=as_json)


@application.command(short_help="Stop the running import after the current batch.")
@SERVER
@output_options
def stop(*, server: str | None, as_json: bool) -> None:
    """Stop the running import after the current batch.

    The next import resumes it. With --server, only the import of that server
    is stopped, and the next one begins.
    """
    from tautulli_pipeline.cli.controlling import run_stop

    run_stop(tidied(load_settings()), server=server, as_json=as_json)


@application.command(short_help="Delete the saved progress; the table is kept.")
@SERVER
@output_options
def reset(*, server: str | None, as_json: bool) -> None:
    """Delete the saved progress; the table, the audit log and the ledger are kept.

    The next import reads every play again and recognizes those already in the table.
    """
    from tautulli_pipeline.cli.controlling import run_reset

    run_reset(tidied(load_settings()), server=server, as_json=as_json)


@application.command(short_help="Write a page of tables and charts.")
@click.option("--year", type=click.IntRange(1, 9999), help="Only plays of this year.")
@click.option("--user", metavar="NAME", help="Only plays of this person; a name or a login.")
@click.option(
    "--out",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file to write; by default, report.html in the data directory.",
)
@click.option("--open", "opening", is_flag=True, help="Open it in a browser.")
@output_options
def report(
    *, year: int | None, user: str | None, file: Path | None, opening: bool, as_json: bool
) -> None:
    """Write a review of the year and statistics of all plays as one HTML page.

    The page needs no network. With --user, it holds nothing of other people.
    """
    from tautulli_pipeline.cli.looking import run_report

    settings = tidied(load_settings())
    run_report(settings, year, user, file, opening=opening, as_json=as_json)


@application.command(short_help="Write tables as Parquet or CSV files.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder to write to; by default, export in the data directory.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="The format of the files.",
)
@output_options
def export(*, names: tuple[str, ...], folder: Path | None, form: str, as_json: bool) -> None:
    """Write tables as files: all tables of analytics.duckdb, or those with a NAME.

    NAME can also be a table of the warehouse: playback_events, playback_revisions,
    dedupe_audit_log, dead_letters, import_ledger, servers, users, libraries,
    near_matches, suspicious_plays.
    """
    from tautulli_pipeline.cli.asking import run_export

    run_export(tidied(load_settings()), names, folder, form, as_json=as_json)


@application.command(short_help="Run a query on the statistics.")
@click.argument("sql", metavar="SQL")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option("--warehouse", "on_warehouse", is_flag=True, help="Query the warehouse instead.")
@output_options
def query(*, sql: str, as_csv: bool, on_warehouse: bool, as_json: bool) -> None:
    """Run one query on analytics.duckdb and print a table.

    It can only read: nothing is changed, and no other file is opened. Try
    'SHOW TABLES' and 'DESCRIBE plays'.
    """
    from tautulli_pipeline.cli.asking import run_query

    if as_csv and as_json:
        raise click.UsageError("--csv and --json cannot be used together")
    settings = tidied(load_settings())
    run_query(settings, sql, on_warehouse=on_warehouse, as_csv=as_csv, as_json=as_json)


@application.command(short_help="Run Dagster's UI, its daemon and the stream server.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Port of Dagster's UI.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. Others than loopback need a password.",
)
@DEBUG
def up(*, port: int, host: str) -> None:
    """Run Dagster's UI on this machine, with its daemon and the stream server.

    Ctrl-C stops all of them. Unfinished work can be resumed.
    """
    from tautulli_pipeline.cli.lines import print_notice
    from tautulli_pipeline.imports.known_warehouse import require_known_version
    from tautulli_pipeline.imports.stopping import Stop

    settings = tidied(load_standing_settings(print_notice, require_known_version))
    stop = Stop("stopped; unfinished work can be resumed")
    with stop.heard():
        from tautulli_pipeline.serving.up import Serving

        Serving(settings, port, stop, print_notice, host).run()
    stop.require_none()


@application.command(short_help="Create a sample Tautulli database and import it.")
@click.option(
    "--rows",
    type=click.IntRange(1, 10_000_000),
    default=10_000,
    show_default=True,
    help="Number of plays.",
)
@output_options
def demo(*, rows: int, as_json: bool) -> None:
    """Create a sample Tautulli database and import it.

    It has a data directory of its own: `demo-data`, in the current directory
    or in PIPELINE_DATA_DIR.
    """
    from tautulli_pipeline.cli.importing import run_demo

    run_demo(tidied(load_demo_settings()), rows, as_json=as_json)


@application.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@DEBUG
def completion(*, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    Put this into ~/.bashrc: eval "$(tautulli-pipeline completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    name = "tautulli-pipeline"
    click.echo(kind(application, {}, name, "_TAUTULLI_PIPELINE_COMPLETE").source())


application.add_command(duplicate_commands)
application.add_command(letter_commands)
