"""`duplicates` and `dead-letters`: their options. What they need is imported when they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.warehouse.audit_words import LAYERS, REASONS, STATUSES

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
_ID = click.argument("given", metavar="ID")
_IDS = click.argument("given", metavar="ID...", nargs=-1, required=True)


def _paged(command: Callable[..., None]) -> Callable[..., None]:
    limit = click.IntRange(1, 100_000)
    for option in (
        click.option("--offset", type=click.IntRange(0), default=0, help="Rows to pass over."),
        click.option("--limit", type=limit, default=20, show_default=True, help="Rows to show."),
    ):
        command = option(command)
    return command


@click.group()
def duplicates() -> None:
    """Look at the discarded duplicates, confirm or undo them.

    An ID may be given by its beginning.
    """


@duplicates.command("list", short_help="List discarded duplicates, the newest first.")
@click.option(
    "--reason",
    metavar="KEY",
    type=click.Choice(REASONS),
    help=f"The key that matched: {', '.join(REASONS)}.",
)
@click.option("--layer", type=click.Choice(LAYERS), help="Who found it.")
@click.option(
    "--status",
    metavar="STATUS",
    type=click.Choice(STATUSES),
    help=f"What was decided: {', '.join(STATUSES)}.",
)
@click.option("--import", "import_id", metavar="IMPORT_ID", help="Of one import alone.")
@click.option("--near", is_flag=True, help="List likely doubles in the table instead.")
@_paged
@_DEBUG
@_JSON
def list_duplicates(*, debug: bool, near: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - each has its type above
    """List discarded duplicates, the newest first.

    With --near, list pairs of stored plays that are likely one: same user and
    item, at the same time, stamped differently. Nothing is done to them.
    """
    from tautulli_pipeline.cli.auditing import run_list_duplicates, run_list_near

    page = (options.pop("limit"), options.pop("offset"))
    if not near:
        run_list_duplicates(load_settings(), options, *page, as_json=as_json)
    elif any(options.values()):
        raise click.UsageError("--near goes with --limit and --offset alone")
    else:
        run_list_near(load_settings(), *page, as_json=as_json)


@duplicates.command("show", short_help="Show one duplicate and the row it matched.")
@_ID
@_DEBUG
@_JSON
def show_duplicate(*, given: str, debug: bool, as_json: bool) -> None:
    """Show one duplicate whole, and where it differs from the row it matched."""
    from tautulli_pipeline.cli.auditing import run_show_duplicate

    run_show_duplicate(load_settings(), given, as_json=as_json)


@duplicates.command(short_help="Bring discarded events into the table.")
@_IDS
@_DEBUG
@_JSON
def restore(*, given: tuple[str, ...], debug: bool, as_json: bool) -> None:
    """Bring discarded events into the table, as plays of their own.

    They are marked as restored. What has the event id of a stored play is that
    play, and is not restored.
    """
    from tautulli_pipeline.cli.auditing import run_restore

    run_restore(load_settings(), given, as_json=as_json)


@duplicates.command()
@_IDS
@_DEBUG
@_JSON
def confirm(*, given: tuple[str, ...], debug: bool, as_json: bool) -> None:
    """Note that these are duplicates indeed."""
    from tautulli_pipeline.cli.auditing import run_confirm

    run_confirm(load_settings(), given, as_json=as_json)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not become an event, and try it again.

    An ID may be given by its beginning.
    """


@dead_letters.command("list", short_help="List dead letters, the newest first.")
@click.option("--reason", help="How the reason begins.")
@click.option("--origin", help="session_history, or the subject of a message.")
@click.option("--import", "import_id", metavar="IMPORT_ID", help="Of one import alone.")
@click.option(
    "--state",
    type=click.Choice(("open", "closed", "all")),
    default="open",
    show_default=True,
    help="Closed: the play arrived since.",
)
@_paged
@_DEBUG
@_JSON
def list_letters(*, debug: bool, as_json: bool, limit: int, offset: int, **options: Any) -> None:  # noqa: ANN401 - each has its type above
    """List dead letters, the newest first."""
    from tautulli_pipeline.cli.auditing import run_list_letters

    run_list_letters(load_settings(), options, limit, offset, as_json=as_json)


@dead_letters.command("show")
@_ID
@_DEBUG
@_JSON
def show_letter(*, given: str, debug: bool, as_json: bool) -> None:
    """Show one dead letter with its raw record."""
    from tautulli_pipeline.cli.auditing import run_show_letter

    run_show_letter(load_settings(), given, as_json=as_json)


@dead_letters.command(short_help="Try dead letters again.")
@click.argument("given", metavar="[ID...]", nargs=-1)
@click.option(
    "--database",
    metavar="DB",
    type=click.Path(path_type=Path, readable=False),
    help="Read the rows from DB, where they were set right.",
)
@_DEBUG
@_JSON
def replay(*, given: tuple[str, ...], database: Path | None, debug: bool, as_json: bool) -> None:
    """Try dead letters again: those with these IDs, or all open ones.

    Rows are read from DB or, without it, from IMPORT_DB_PATH. What is not there
    any more, and messages of the stream, are tried as they were kept. What
    becomes an event is brought into the table, once; the rest stays, with its
    reason as it is now.
    """
    from tautulli_pipeline.cli.auditing import run_replay

    run_replay(load_settings(), given, database, as_json=as_json)
