"""The commands of `duplicates` and `dead-letters`. DuckDB is imported when one of them runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tautulli_pipeline.cli.options import output_options
from tautulli_pipeline.cli.reporting import print_json, print_line
from tautulli_pipeline.cli.tables import Column, print_fields, print_page, print_rows
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.warehouse.audit_words import LAYERS, REASONS, STATUSES

if TYPE_CHECKING:
    from tautulli_pipeline.warehouse.reading import Listing, OpenWarehouse, Page

_SHORT: Final = 8
_NAMED: Final = 20

_ID = click.argument("given", metavar="ID")
_IDS = click.argument("given", metavar="ID...", nargs=-1, required=True)
_OF_IMPORT = click.option(
    "--import", "import_id", metavar="IMPORT_ID", help="Only from this import."
)


@click.group("duplicates")
def duplicate_commands() -> None:
    """Look at the discarded duplicates, confirm or undo them.

    An ID may be given by its beginning.
    """


@click.group("dead-letters")
def letter_commands() -> None:
    """Look at what could not become an event, and try it again.

    An ID may be given by its beginning.
    """


def _paged(command: Callable[..., None]) -> Callable[..., None]:
    limit = click.IntRange(1, 100_000)
    for option in (
        click.option("--offset", type=click.IntRange(0), default=0, help="Rows to skip."),
        click.option("--limit", type=limit, default=20, show_default=True, help="Rows to show."),
    ):
        command = option(command)
    return command


@duplicate_commands.command("list", short_help="List discarded duplicates, the newest first.")
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
@_OF_IMPORT
@click.option("--near", is_flag=True, help="List likely duplicates in the table instead.")
@_paged
@output_options
def list_duplicates(
    *,
    near: bool,
    limit: int,
    offset: int,
    as_json: bool,
    **wanted: Any,  # noqa: ANN401 - each has its type above
) -> None:
    """List discarded duplicates, the newest first.

    With --near, list pairs of stored plays that are likely one: same user and
    item, at the same time, stamped differently. Nothing is done to them.
    """
    from tautulli_pipeline.warehouse import duplicates
    from tautulli_pipeline.warehouse.reading import Page

    if near and any(wanted.values()):
        raise click.UsageError("--near goes with --limit and --offset alone")
    page = Page(limit, offset)
    if near:
        near_matches = _listed(lambda found: duplicates.list_near_matches(found, page))
        _print_listing("near_matches", near_matches, page, _NEAR_COLUMNS, as_json=as_json)
        return
    audit = duplicates.AuditFilter(**wanted)
    listing = _listed(lambda found: duplicates.list_duplicates(found, audit, page))
    _print_listing("duplicates", listing, page, _DUPLICATE_COLUMNS, as_json=as_json)


@duplicate_commands.command("show", short_help="Show one duplicate and the row it matched.")
@_ID
@output_options
def show_duplicate(*, given: str, as_json: bool) -> None:
    """Show one duplicate whole, and where it differs from the row it matched."""
    from tautulli_pipeline.warehouse import duplicates

    with _existing(duplicates.KIND, given) as connection:
        facts = duplicates.show_duplicate(connection, given)
    if as_json:
        print_json(facts)
        return
    payload, differences = facts.pop("payload"), facts.pop("differences")
    print_fields(facts)
    print_line("")
    if differences is None:
        print_line("the row it matched is not in the table; its payload:")
        print_fields(payload if isinstance(payload, dict) else {"payload": payload})
    elif differences:
        print_rows(
            ("field", "discarded", "in the table"),
            ([name, both["discarded"], both["stored"]] for name, both in differences.items()),
        )
    else:
        print_line("it says what the row it matched says")


@duplicate_commands.command(short_help="Bring discarded events into the table.")
@_IDS
@output_options
def restore(*, given: tuple[str, ...], as_json: bool) -> None:
    """Bring discarded events into the table, as plays of their own.

    They are marked as restored. What has the event id of a stored play is that
    play, and is not restored.
    """
    from tautulli_pipeline.warehouse import duplicates

    words = {True: "restored, and read back", False: "is in the table already"}
    _resolve(duplicates.restore, given, ("restored", "added"), words, as_json=as_json)


@duplicate_commands.command()
@_IDS
@output_options
def confirm(*, given: tuple[str, ...], as_json: bool) -> None:
    """Confirm that these are duplicates."""
    from tautulli_pipeline.warehouse import duplicates

    words = {True: "confirmed", False: "was confirmed before"}
    _resolve(duplicates.confirm, given, ("confirmed", "changed"), words, as_json=as_json)


def _resolve(
    resolve: Callable[[OpenWarehouse, Sequence[str], datetime], list[tuple[str, bool]]],
    given: Sequence[str],
    names: tuple[str, str],
    words: Mapping[bool, str],
    *,
    as_json: bool,
) -> None:
    """Decide about these duplicates; JSON names the list, and what is true of each, by `names`."""
    from tautulli_pipeline.imports.curation import open_for_curation
    from tautulli_pipeline.warehouse.duplicates import KIND
    from tautulli_pipeline.warehouse.writer import utc_now

    with open_for_curation(load_settings(), KIND, given) as connection:
        resolved = resolve(connection, given, utc_now())
    if as_json:
        listed, told = names
        print_json({listed: [{"id": row_id, told: new} for row_id, new in resolved]})
        return
    for row_id, new in resolved:
        print_line(f"{row_id}: {words[new]}")


@letter_commands.command("list", short_help="List dead letters, the newest first.")
@click.option("--reason", metavar="TEXT", help="Only reasons starting with TEXT.")
@click.option("--origin", help="session_history, or the subject of a message.")
@_OF_IMPORT
@click.option(
    "--state",
    type=click.Choice(("open", "closed", "all")),
    default="open",
    show_default=True,
    help="Closed: the play arrived since.",
)
@_paged
@output_options
def list_letters(*, limit: int, offset: int, as_json: bool, **wanted: Any) -> None:  # noqa: ANN401 - each has its type above
    """List dead letters, the newest first."""
    from tautulli_pipeline.warehouse import dead_letters
    from tautulli_pipeline.warehouse.reading import Page

    letters, page, state = dead_letters.LetterFilter(**wanted), Page(limit, offset), wanted["state"]
    listing = _listed(lambda found: dead_letters.list_letters(found, letters, page))
    closed_by = {"closed by": Column(itemgetter("closed_by"))}
    columns = _LETTER_COLUMNS | ({} if state == dead_letters.OPEN else closed_by)
    told = "dead letters" if state == dead_letters.ALL else f"{state} dead letters"
    _print_listing("dead_letters", listing, page, columns, told, as_json=as_json)


@letter_commands.command("show")
@_ID
@output_options
def show_letter(*, given: str, as_json: bool) -> None:
    """Show one dead letter with its raw record."""
    from tautulli_pipeline.warehouse import dead_letters

    with _existing(dead_letters.KIND, given) as connection:
        facts = dead_letters.show_letter(connection, given)
    if as_json:
        print_json(facts)
        return
    record = facts.pop("record")
    print_fields(facts)
    tables = record if isinstance(record, dict) else {"record": record}
    for name, value in tables.items():
        print_line("")
        print_line(name)
        print_fields(value if isinstance(value, dict) else {"": value})


@letter_commands.command(short_help="Try dead letters again.")
@click.argument("given", metavar="[ID...]", nargs=-1)
@click.option(
    "--database",
    metavar="DB",
    type=click.Path(path_type=Path, readable=False),
    help="Read the rows from DB, where they were fixed.",
)
@output_options
def replay(*, given: tuple[str, ...], database: Path | None, as_json: bool) -> None:
    """Try dead letters again: those with these IDs, or all open ones.

    Rows are read from DB or, without it, from IMPORT_DB_PATH. What is not there
    any more, and messages of the stream, are tried as they were kept. What
    becomes an event is brought into the table, once; the rest stays, with its
    reason as it is now.
    """
    from tautulli_pipeline.cli.options import database_path
    from tautulli_pipeline.imports.curation import open_for_curation, replay_letters
    from tautulli_pipeline.warehouse import dead_letters

    settings = load_settings()
    tried: Sequence[Any] = ()
    if given or settings.warehouse_path.exists():
        path = database_path(settings, database) if database else None
        with open_for_curation(settings, dead_letters.KIND, given) as connection:
            tried = replay_letters(connection, settings, given, path)
    found = Counter(one.outcome for one in tried)
    counts = {outcome: found[outcome] for outcome in ("imported", "duplicate", "rejected")}
    if as_json:
        facts = ("id", "outcome", "reason", "event_id")
        letters = [{name: getattr(one, name) for name in facts} for one in tried]
        print_json({"tried": len(tried), **counts, "dead_letters": letters})
        return
    if not tried:
        print_line("no open dead letters to try")
        return
    rejected = [one for one in tried if one.reason]
    for one in rejected[:_NAMED]:
        print_line(f"{one.id}: {one.reason}")
    if len(rejected) > _NAMED:
        print_line(
            f"and {len(rejected) - _NAMED:,} more, see `tautulli-pipeline dead-letters list`"
        )
    print_line(
        f"{counts['imported']:,} imported, {counts['duplicate']:,} in the table already, "
        f"{counts['rejected']:,} still dead letters"
    )


def _short_id(row: Mapping[str, Any]) -> str:
    return str(row["id"])[:_SHORT]


_DUPLICATE_COLUMNS: Final = {
    "id": Column(_short_id),
    "play": Column(itemgetter("title"), flexible=True),
    "user": Column(itemgetter("user"), at_most=10),
    "matched by": Column(itemgetter("dedupe_reason")),
    "status": Column(itemgetter("status")),
}
_NEAR_COLUMNS: Final = {
    "play": Column(itemgetter("title"), flexible=True),
    "user": Column(lambda row: row["user"] or row["user_id"], at_most=10),
    "started": Column(lambda row: f"{row['first_started_at']:%Y-%m-%d %H:%M}"),
    "apart": Column(lambda row: f"{row['seconds_apart']} s"),
    "sources": Column(lambda row: f"{row['first_source']}, {row['second_source']}"),
}
_LETTER_COLUMNS: Final = {
    "id": Column(_short_id),
    "origin": Column(itemgetter("origin"), at_most=15),
    "row": Column(itemgetter("source_row_id")),
    "play": Column(itemgetter("title"), at_most=14),
    "reason": Column(itemgetter("reason"), flexible=True),
}


def _listed(fetch: Callable[[OpenWarehouse], Listing]) -> Listing:
    from tautulli_pipeline.warehouse.reading import EMPTY, open_to_read

    path = load_settings().warehouse_path
    if not path.exists():
        return EMPTY
    with open_to_read(path) as connection:
        return fetch(connection)


def _print_listing(
    name: str,
    listing: Listing,
    page: Page,
    columns: Mapping[str, Column],
    told: str | None = None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        facts = {"total": listing.total, "limit": page.limit, "offset": page.offset}
        print_json(facts | {name: listing.rows})
    else:
        print_page(listing, page, columns, told or name.replace("_", " "))


@contextmanager
def _existing(kind: str, given: str) -> Iterator[OpenWarehouse]:
    from tautulli_pipeline.warehouse.reading import no_such, open_to_read

    path = load_settings().warehouse_path
    if not path.exists():
        raise no_such(kind, given)
    with open_to_read(path) as connection:
        yield connection
