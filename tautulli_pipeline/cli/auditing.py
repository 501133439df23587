"""`duplicates` and `dead-letters`: what they print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from tautulli_pipeline.cli.importing import database_path
from tautulli_pipeline.cli.reporting import print_json, print_line
from tautulli_pipeline.cli.tables import Column, print_fields, print_page, print_rows, printable
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.warehouse import dead_letters, duplicates
from tautulli_pipeline.warehouse.near_matches import list_near_matches
from tautulli_pipeline.warehouse.reading import (
    EMPTY,
    Listing,
    OpenWarehouse,
    Page,
    no_such,
    open_to_read,
)

_SHORT: Final = 8
_NAMED: Final = 20


def run_list_duplicates(
    settings: Settings, wanted: Mapping[str, Any], limit: int, offset: int, *, as_json: bool
) -> None:
    """A page of the audit."""
    audit, page = duplicates.AuditFilter(**wanted), Page(limit, offset)
    listing = _listed(settings, lambda found: duplicates.list_duplicates(found, audit, page))
    if as_json:
        _print_listing("duplicates", listing, page)
        return
    columns = {
        "id": Column(_short_id),
        "play": Column(itemgetter("title"), flexible=True),
        "user": Column(itemgetter("user"), at_most=10),
        "matched by": Column(itemgetter("dedupe_reason")),
        "status": Column(itemgetter("status")),
    }
    print_page(listing, page, columns, "duplicates")


def run_list_near(settings: Settings, limit: int, offset: int, *, as_json: bool) -> None:
    """A page of likely doubles."""
    page = Page(limit, offset)
    listing = _listed(settings, lambda found: list_near_matches(found, page))
    if as_json:
        _print_listing("near_matches", listing, page)
        return
    columns = {
        "play": Column(itemgetter("title"), flexible=True),
        "user": Column(lambda row: row["user"] or row["user_id"], at_most=10),
        "started": Column(lambda row: f"{row['first_started_at']:%Y-%m-%d %H:%M}"),
        "apart": Column(lambda row: f"{row['seconds_apart']} s"),
        "sources": Column(lambda row: f"{row['first_source']}, {row['second_source']}"),
    }
    print_page(listing, page, columns, "near matches")


def run_show_duplicate(settings: Settings, given: str, *, as_json: bool) -> None:
    """One duplicate and where it differs."""
    with _existing(settings, duplicates.KIND, given) as connection:
        facts = duplicates.show_duplicate(connection, given)
    if as_json:
        print_json(printable(facts))
        return
    payload, differences = facts.pop("payload"), facts.pop("differences")
    print_fields(facts)
    print_line("")
    if differences is None:
        print_line("the row it matched is not in the table; its payload:")
        print_fields(payload if isinstance(payload, dict) else {"payload": payload})
    elif differences:
        _print_differences(differences)
    else:
        print_line("it says what the row it matched says")


def _print_differences(differences: Mapping[str, Mapping[str, Any]]) -> None:
    print_rows(
        ("field", "discarded", "in the table"),
        ([name, both["discarded"], both["stored"]] for name, both in differences.items()),
    )


def run_restore(settings: Settings, given: Sequence[str], *, as_json: bool) -> None:
    """Bring duplicates into the table."""
    from tautulli_pipeline.orchestration.upkeep import open_for_upkeep, restore_duplicates

    with open_for_upkeep(settings, duplicates.KIND, given) as connection:
        resolved = restore_duplicates(connection, given)
    if as_json:
        print_json({"restored": [{"id": one.id, "added": one.changed} for one in resolved]})
    for one in [] if as_json else resolved:
        done = "restored, and read back" if one.changed else "is in the table already"
        print_line(f"{one.id}: {done}")


def run_confirm(settings: Settings, given: Sequence[str], *, as_json: bool) -> None:
    """Note that duplicates are some."""
    from tautulli_pipeline.orchestration.upkeep import confirm_duplicates, open_for_upkeep

    with open_for_upkeep(settings, duplicates.KIND, given) as connection:
        resolved = confirm_duplicates(connection, given)
    if as_json:
        print_json({"confirmed": [{"id": one.id, "changed": one.changed} for one in resolved]})
    for one in [] if as_json else resolved:
        print_line(f"{one.id}: {'confirmed' if one.changed else 'was confirmed before'}")


def run_list_letters(
    settings: Settings, wanted: Mapping[str, Any], limit: int, offset: int, *, as_json: bool
) -> None:
    """A page of the dead letters."""
    letters, page = dead_letters.LetterFilter(**wanted), Page(limit, offset)
    listing = _listed(settings, lambda found: dead_letters.list_letters(found, letters, page))
    if as_json:
        _print_listing("dead_letters", listing, page)
        return
    state = wanted["state"]
    columns = {
        "id": Column(_short_id),
        "origin": Column(itemgetter("origin"), at_most=15),
        "row": Column(itemgetter("source_row_id")),
        "play": Column(itemgetter("title"), at_most=14),
        "reason": Column(itemgetter("reason"), flexible=True),
        **({} if state == dead_letters.OPEN else {"closed by": Column(itemgetter("closed_by"))}),
    }
    name = "dead letters" if state == dead_letters.ALL else f"{state} dead letters"
    print_page(listing, page, columns, name)


def run_show_letter(settings: Settings, given: str, *, as_json: bool) -> None:
    """One dead letter and its record."""
    with _existing(settings, dead_letters.KIND, given) as connection:
        facts = dead_letters.show_letter(connection, given)
    if as_json:
        print_json(printable(facts))
        return
    record = facts.pop("record")
    print_fields(facts)
    tables = record if isinstance(record, dict) else {"record": record}
    for name, value in tables.items():
        print_line("")
        print_line(name)
        print_fields(value if isinstance(value, dict) else {"": value})


def run_replay(
    settings: Settings, given: Sequence[str], database: Path | None, *, as_json: bool
) -> None:
    """Try dead letters again."""
    from tautulli_pipeline.orchestration.upkeep import open_for_upkeep, replay_letters

    if not given and not settings.warehouse_path.exists():
        tried: tuple[Any, ...] = ()
    else:
        path = database_path(settings, database) if database else None
        with open_for_upkeep(settings, dead_letters.KIND, given) as connection:
            tried = replay_letters(connection, settings, given, path)
    counts = dict.fromkeys(("imported", "duplicate", "rejected"), 0)
    for one in tried:
        counts[one.outcome] += 1
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


def _print_listing(name: str, listing: Listing, page: Page) -> None:
    facts = {"total": listing.total, "limit": page.limit, "offset": page.offset}
    print_json(facts | {name: [printable(row) for row in listing.rows]})


@contextmanager
def _existing(settings: Settings, kind: str, given: str) -> Iterator[OpenWarehouse]:
    if not settings.warehouse_path.exists():
        raise no_such(kind, given)
    with open_to_read(settings.warehouse_path) as connection:
        yield connection


def _listed(settings: Settings, fetch: Callable[[OpenWarehouse], Listing]) -> Listing:
    if not settings.warehouse_path.exists():
        return EMPTY
    with open_to_read(settings.warehouse_path) as connection:
        return fetch(connection)
