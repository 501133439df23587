"""The `duplicates` and `dead-letters` commands. They import DuckDB when they run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from tautulli_pipeline.cli.lines import print_line
from tautulli_pipeline.cli.options import output_options, tidied
from tautulli_pipeline.cli.progress import showing_upgrade
from tautulli_pipeline.cli.reporting import print_json
from tautulli_pipeline.cli.tables import Column, print_fields, print_page, print_rows
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.warehouse.audit_words import (
    LAYERS,
    REASONS,
    REASONS_IN_WORDS,
    STATUSES,
    STATUSES_IN_WORDS,
)

if TYPE_CHECKING:
    from tautulli_pipeline.warehouse.reading import Listing, OpenWarehouse, Page

_SHORT_ID_LENGTH: Final = 8
_REJECTED_SHOWN: Final = 20
_DIFFERENCES_NAMED: Final = 4

_ID = click.argument("given", metavar="ID")
_IDS = click.argument("given", metavar="[ID...]", nargs=-1)
_FROM_IMPORT = click.option(
    "--import", "import_id", metavar="IMPORT_ID", help="Only those of this import."
)


@click.group("duplicates")
def duplicate_commands() -> None:
    """List, confirm or restore discarded duplicates.

    An ID can be abbreviated to its first characters.
    """


@click.group("dead-letters")
def letter_commands() -> None:
    """List or replay the records that could not become events.

    An ID can be abbreviated to its first characters.
    """


_Command = Callable[..., None]


def _with(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds these options, in this order in the help."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_paged = _with(
    click.option(
        "--limit",
        type=click.IntRange(1, 100_000),
        default=20,
        show_default=True,
        help="Number of rows to show.",
    ),
    click.option("--offset", type=click.IntRange(0), default=0, help="Number of rows to skip."),
)
_duplicate_filters = _with(
    click.option(
        "--reason",
        "dedupe_reason",
        metavar="KEY",
        type=click.Choice(REASONS),
        help=f"Only those matched by this key: {', '.join(REASONS)}.",
    ),
    click.option(
        "--layer",
        "dedupe_layer",
        type=click.Choice(LAYERS),
        help="Only those found by this layer.",
    ),
    click.option(
        "--status",
        metavar="STATUS",
        type=click.Choice(STATUSES),
        help=f"Only those with this status: {', '.join(STATUSES)}.",
    ),
    _FROM_IMPORT,
)
_letter_filters = _with(
    click.option("--reason", metavar="TEXT", help="Only those whose reason starts with TEXT."),
    click.option("--origin", help="Only those of session_history, or of a stream subject."),
    _FROM_IMPORT,
)


@duplicate_commands.command("list", short_help="List discarded duplicates, newest first.")
@_duplicate_filters
@click.option("--near", is_flag=True, help="List likely duplicates among the stored plays instead.")
@_paged
@output_options
def list_duplicates(
    *,
    near: bool,
    limit: int,
    offset: int,
    as_json: bool,
    **filters: Any,  # noqa: ANN401 - the options above define the types
) -> None:
    """List discarded duplicates, newest first.

    With --near, list pairs of stored plays that are likely the same play: same
    user and item, with slightly different times. They are not changed.
    """
    from tautulli_pipeline.warehouse import duplicates
    from tautulli_pipeline.warehouse.reading import Page

    if near and any(filters.values()):
        raise click.UsageError("--near can be combined only with --limit and --offset")
    page = Page(limit, offset)
    if near:
        query = partial(duplicates.list_near_matches, page=page)
        hint = "these plays are all in the table; nothing was changed"
        _print_list("near_matches", query, page, _NEAR_COLUMNS, hint=hint, as_json=as_json)
    else:
        query = partial(duplicates.list_duplicates, filters=filters, page=page)
        hint = "`tautulli-pipeline duplicates show ID` compares one with the row it matched"
        _print_list("duplicates", query, page, _DUPLICATE_COLUMNS, hint=hint, as_json=as_json)


@duplicate_commands.command("show", short_help="Show a duplicate and the row it matched.")
@_ID
@output_options
def show_duplicate(*, given: str, as_json: bool) -> None:
    """Show a duplicate and how it differs from the row it matched."""
    from tautulli_pipeline.warehouse import duplicates

    with _open_existing(duplicates.KIND, given) as connection:
        facts = duplicates.show_duplicate(connection, given)
    if as_json:
        print_json(facts)
        return
    payload, differences = facts.pop("payload"), facts.pop("differences")
    if differences is not None:
        # It is noted on arrival, and version 0.1.0 also compared row numbers.
        del facts["content_differs"]
    print_fields(facts)
    print_line("")
    if differences is None:
        print_line("the row it matched is not in the table; payload of the duplicate:")
        print_fields(payload if isinstance(payload, dict) else {"payload": payload})
    elif differences:
        print_rows(
            ("field", "discarded", "in the table"),
            ([name, both["discarded"], both["stored"]] for name, both in differences.items()),
        )
    else:
        print_line("it has the same content as the row it matched")


@duplicate_commands.command(short_help="Add discarded duplicates to the table.")
@_IDS
@_duplicate_filters
@output_options
def restore(
    *,
    given: tuple[str, ...],
    as_json: bool,
    **filters: Any,  # noqa: ANN401 - the options above define the types
) -> None:
    """Add discarded duplicates to the table as separate plays.

    Choose them by their IDs, or with the options of the list. They are marked as
    restored. A duplicate with the event id of a stored play is that play and
    cannot be restored.
    """
    from tautulli_pipeline.warehouse import duplicates

    words = _Resolved("restored", "added", "restored and verified", "already in the table")
    _resolve(duplicates.restore, given, filters, words, as_json=as_json)


@duplicate_commands.command(short_help="Confirm that these are duplicates.")
@_IDS
@_duplicate_filters
@output_options
def confirm(
    *,
    given: tuple[str, ...],
    as_json: bool,
    **filters: Any,  # noqa: ANN401 - the options above define the types
) -> None:
    """Confirm that these are duplicates.

    Choose them by their IDs, or with the options of the list.
    """
    from tautulli_pipeline.warehouse import duplicates

    words = _Resolved("confirmed", "changed", "confirmed", "already confirmed")
    _resolve(duplicates.confirm, given, filters, words, as_json=as_json)


class _Resolved(NamedTuple):
    """How to print what became of duplicates: JSON names, and words for each outcome."""

    list_name: str
    flag_name: str
    changed: str
    unchanged: str


def _resolve(
    resolve: Callable[..., list[tuple[str, bool]]],
    given: Sequence[str],
    filters: Mapping[str, object],
    words: _Resolved,
    *,
    as_json: bool,
) -> None:
    """Apply `resolve` to the chosen duplicates and print the outcome of each."""
    from tautulli_pipeline.imports.curation import open_for_curation
    from tautulli_pipeline.warehouse.duplicates import KIND
    from tautulli_pipeline.warehouse.writer import utc_now

    _require_one_choice(given, filters)
    settings = tidied(load_settings())
    resolved: list[tuple[str, bool]] = []
    if given or settings.warehouse_path.exists():
        with (
            showing_upgrade(sys.stderr) as show,
            open_for_curation(settings, KIND, given, show) as connection,
        ):
            resolved = resolve(connection, given, utc_now(), filters)
    if as_json:
        facts = [{"id": row_id, words.flag_name: new} for row_id, new in resolved]
        print_json({words.list_name: facts})
        return
    if given:
        for row_id, new in resolved:
            print_line(f"{row_id}: {words.changed if new else f'is {words.unchanged}'}")
        return
    changed = sum(new for _, new in resolved)
    print_line(f"{changed:,} {words.changed}, {len(resolved) - changed:,} {words.unchanged}")


def _require_one_choice(given: Sequence[str], filters: Mapping[str, object]) -> None:
    chosen = any(value is not None for value in filters.values())
    if given and chosen:
        raise click.UsageError("IDs cannot be combined with other options that choose rows")
    if not given and not chosen:
        raise click.UsageError("no duplicates are chosen: name their IDs, or use --import ...")


@letter_commands.command("list", short_help="List dead letters, newest first.")
@_letter_filters
@click.option(
    "--state",
    type=click.Choice(("open", "closed", "all")),
    default="open",
    show_default=True,
    help="Only these; closed means that the play has arrived since.",
)
@_paged
@output_options
def list_letters(
    *,
    reason: str | None,
    state: str,
    limit: int,
    offset: int,
    as_json: bool,
    **filters: Any,  # noqa: ANN401 - the options above define the types
) -> None:
    """List dead letters, newest first."""
    from tautulli_pipeline.warehouse import dead_letters
    from tautulli_pipeline.warehouse.reading import Page

    page = Page(limit, offset)
    query = partial(
        dead_letters.list_letters, filters=filters, page=page, state=state, reason=reason
    )
    title = "dead letters" if state == "all" else f"{state} dead letters"
    hint = "`tautulli-pipeline dead-letters show ID` shows one whole; `replay` tries them again"
    _print_list("dead_letters", query, page, _LETTER_COLUMNS, title, hint=hint, as_json=as_json)


@letter_commands.command("show", short_help="Show a dead letter and its raw record.")
@_ID
@output_options
def show_letter(*, given: str, as_json: bool) -> None:
    """Show a dead letter and its raw record."""
    from tautulli_pipeline.warehouse import dead_letters

    with _open_existing(dead_letters.KIND, given) as connection:
        facts = dead_letters.show_letter(connection, given)
    if as_json:
        print_json(facts)
        return
    record = facts.pop("record")
    print_fields(facts)
    if not isinstance(record, dict):
        record = {"record": record}
    if not all(isinstance(value, dict) for value in record.values()):
        record = {"record": record}
    for name, value in record.items():
        if not any(value.values()):
            continue
        print_line("")
        print_line(name)
        print_fields(value)


@letter_commands.command(short_help="Try to import dead letters again.")
@click.argument("given", metavar="[ID...]", nargs=-1)
@click.option(
    "--database",
    metavar="DB",
    type=click.Path(path_type=Path, readable=False),
    help="Database with the corrected rows.",
)
@_letter_filters
@output_options
def replay(
    *,
    given: tuple[str, ...],
    database: Path | None,
    as_json: bool,
    **filters: Any,  # noqa: ANN401 - the options above define the types
) -> None:
    """Try to import dead letters again: those with these IDs, or all open ones.

    The options of the list choose some of the open ones.

    Rows are read from DB, or from IMPORT_DB_PATH if it is not given. Stream
    messages, and rows that no longer exist, are replayed from their saved copy.
    Each record that becomes an event is added to the table once. The others
    stay dead letters, with their current reason.
    """
    from tautulli_pipeline.cli.options import database_path
    from tautulli_pipeline.imports.curation import open_for_curation, replay_letters
    from tautulli_pipeline.warehouse import dead_letters

    if given and any(value is not None for value in filters.values()):
        raise click.UsageError("IDs cannot be combined with other options that choose rows")
    settings = tidied(load_settings())
    tried: Sequence[Any] = ()
    if given or settings.warehouse_path.exists():
        path = database_path(settings, database) if database else None
        with (
            showing_upgrade(sys.stderr) as show,
            open_for_curation(settings, dead_letters.KIND, given, show) as connection,
        ):
            tried = replay_letters(connection, settings, given, path, **filters)
    found = Counter(letter.outcome for letter in tried)
    counts = {outcome: found[outcome] for outcome in ("imported", "duplicate", "rejected")}
    if as_json:
        facts = ("id", "outcome", "reason", "event_id")
        letters = [{name: getattr(letter, name) for name in facts} for letter in tried]
        print_json({"tried": len(tried), **counts, "dead_letters": letters})
        return
    if not tried:
        print_line("no open dead letters to replay")
        return
    rejected = [letter for letter in tried if letter.reason]
    for letter in rejected[:_REJECTED_SHOWN]:
        print_line(f"{letter.id}: {letter.reason}")
    if len(rejected) > _REJECTED_SHOWN:
        more = len(rejected) - _REJECTED_SHOWN
        print_line(f"and {more:,} more; see `tautulli-pipeline dead-letters list`")
    print_line(
        f"{counts['imported']:,} imported, {counts['duplicate']:,} already in the table, "
        f"{counts['rejected']:,} still dead letters"
    )


def _short_id(row: Mapping[str, Any]) -> str:
    return str(row["id"])[:_SHORT_ID_LENGTH]


def _start(row: Mapping[str, Any]) -> str | None:
    started_at = row.get("started_at") or row.get("first_started_at")
    return f"{started_at:%Y-%m-%d %H:%M}" if started_at else None


def _play(row: Mapping[str, Any]) -> str:
    """Return the title, after the title of its show or artist."""
    names = (row.get("show") or row.get("grandparent_title"), row["title"] or "(no title)")
    return " - ".join(name for name in names if name)


def _duplicate_lines(row: Mapping[str, Any]) -> tuple[str, ...]:
    status = STATUSES_IN_WORDS[row["status"]]
    return (
        _play(row),
        _joined(_on(row["player"]), _difference(row["differs_in"])),
        _joined(REASONS_IN_WORDS.get(row["dedupe_reason"], row["dedupe_reason"]), status),
    )


def _near_lines(row: Mapping[str, Any]) -> tuple[str, ...]:
    first, second = (
        f"{row[f'{side}_source']} {_on(row[f'{side}_player'])}".strip()
        for side in ("first", "second")
    )
    sources = f"both {first}" if first == second else f"{first}, {second}"
    ids = f"server ids {row['server_id']}, {row['second_server_id']}"
    distance = _joined(
        f"{row['seconds_apart']} s apart", sources, "" if row["same_server"] else ids
    )
    named = {"timestamp", "started_at", "server_id"}
    others = [name for name in row["differs_in"] if name not in named]
    return (_play(row), distance, _difference(others))


def _letter_lines(row: Mapping[str, Any]) -> tuple[str, ...]:
    number = row["source_row_id"]
    origin = f"from {row['origin']}" if number is None else f"row {number} of {row['origin']}"
    closed = f"closed by {row['closed_by']}" if row["closed_by"] else ""
    return (_play(row), _joined(_on(row["player"]), origin), _joined(row["reason"], closed))


def _on(player: str | None) -> str:
    return f"on {player}" if player else ""


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _difference(names: Sequence[str] | None) -> str:
    if names is None:
        return "the row it matched is not in the table"
    if not names:
        return "no differences"
    shown = ", ".join(names[:_DIFFERENCES_NAMED])
    more = len(names) - _DIFFERENCES_NAMED
    return f"differs in {shown}" + (f" and {more} more" if more > 0 else "")


_DUPLICATE_COLUMNS: Final = {
    "id": Column(_short_id),
    "started (UTC)": Column(_start),
    "user": Column(itemgetter("user"), at_most=12),
    "play": Column(_duplicate_lines, flexible=True),
}
_NEAR_COLUMNS: Final = {
    "started (UTC)": Column(_start),
    "user": Column(lambda row: row["user"] or row["user_id"], at_most=12),
    "play": Column(_near_lines, flexible=True),
}
_LETTER_COLUMNS: Final = {
    "id": Column(_short_id),
    "started (UTC)": Column(_start),
    "user": Column(itemgetter("user"), at_most=12),
    "play": Column(_letter_lines, flexible=True),
}


def _print_list(
    name: str,
    query: Callable[[OpenWarehouse], Listing],
    page: Page,
    columns: Mapping[str, Column],
    title: str | None = None,
    *,
    hint: str,
    as_json: bool,
) -> None:
    """Print the page that `query` returns; without a warehouse, the list is empty."""
    from tautulli_pipeline.warehouse.reading import Listing, open_to_read

    listing, path = Listing(0, []), tidied(load_settings()).warehouse_path
    if path.exists():
        with open_to_read(path) as connection:
            listing = query(connection)
    if as_json:
        facts = {"total": listing.total, "limit": page.limit, "offset": page.offset}
        print_json(facts | {name: listing.rows})
    else:
        print_page(listing, page, columns, title or name.replace("_", " "), hint)


@contextmanager
def _open_existing(kind: str, given: str) -> Iterator[OpenWarehouse]:
    from tautulli_pipeline.warehouse.reading import no_such, open_to_read

    path = tidied(load_settings()).warehouse_path
    if not path.exists():
        raise no_such(kind, given)
    with open_to_read(path) as connection:
        yield connection
