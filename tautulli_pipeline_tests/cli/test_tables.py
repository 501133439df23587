"""Tables in terminals of different widths."""

from __future__ import annotations

import json
from datetime import datetime
from operator import itemgetter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tautulli_pipeline.cli.reporting import print_json
from tautulli_pipeline.cli.tables import Column, print_fields, print_page, print_rows
from tautulli_pipeline.warehouse.reading import Listing, Page

COLUMNS = {
    "id": Column(itemgetter("id")),
    "play": Column(itemgetter("title"), flexible=True),
    "user": Column(itemgetter("user"), at_most=10),
}


@pytest.fixture
def width(monkeypatch):
    """Return a function that sets the width of the terminal."""

    def width(columns):
        monkeypatch.setenv("COLUMNS", str(columns))

    width(80)
    return width


@pytest.fixture
def shown(width, capsys):
    """Return a function that returns the lines printed since its last call."""

    def shown():
        return capsys.readouterr().out.splitlines()

    return shown


def row(number, title="Alien", user="mira"):
    return {"id": number, "title": title, "user": user}


def test_a_page_shows_its_position_and_the_next_offset(shown):
    listing = Listing(1_200, [row(n) for n in range(3)])
    print_page(listing, Page(3, 999), COLUMNS, "plays")
    head, *rows, last = shown()
    assert head.split() == ["id", "play", "user"]
    assert [line.split() for line in rows] == [[str(n), "Alien", "mira"] for n in range(3)]
    assert last == "1,000 to 1,002 of 1,200 plays; continue with --offset 1002"


def test_the_last_page_shows_no_next_offset(shown):
    print_page(Listing(5, [row(4), row(5)]), Page(3, 3), COLUMNS, "plays")
    assert shown()[-1] == "4 to 5 of 5 plays"


def test_a_page_ends_with_a_hint_what_to_do_next(shown):
    print_page(Listing(1, [row(1)]), Page(1), COLUMNS, "plays", "show one with `show ID`")
    print_page(Listing(0, []), Page(1), COLUMNS, "plays", "show one with `show ID`")
    assert shown()[-3:] == ["1 to 1 of 1 plays", "show one with `show ID`", "no plays"]


def test_a_page_beyond_the_end_differs_from_an_empty_list(shown):
    print_page(Listing(0, []), Page(3), COLUMNS, "plays")
    print_page(Listing(1_200, []), Page(3, 2_000), COLUMNS, "plays")
    assert shown() == ["no plays", "no plays at offset 2,000; the total is 1,200"]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_long_cells_are_shortened_to_fit_the_terminal(shown, width, columns):
    width(columns)
    listing = Listing(1, [row(1, title="x" * 500, user="a-name-longer-than-ten")])
    print_page(listing, Page(1), COLUMNS, "plays")
    _, line, *more, _ = shown()
    assert max(len(one.rstrip()) for one in (line, *more)) <= columns
    number, title, user = line.split()
    assert number == "1"
    title += "".join(one.strip() for one in more)
    assert title == "x" * 99 + "…"
    assert (user, len(user)) == ("a-name-lo…", 10)


def test_a_cell_of_several_lines_wraps_at_words(shown):
    columns = COLUMNS | {"play": Column(lambda row: (row["title"], "on Chrome"), flexible=True)}
    title = "A title that does not fit on a line, because it has so many words that it wraps"
    print_page(Listing(1, [row(1, title)]), Page(1), columns, "plays")
    first, second, third = (line.strip() for line in shown()[1:-1])
    assert f"{first.removeprefix('1').removesuffix('mira').strip()} {second}" == title
    assert third == "on Chrome"


def test_empty_fields_are_omitted_but_zero_is_shown(shown):
    print_fields({"title": "Alien", "year": None, "note": "", "plays": 0, "live": False})
    assert [line.split() for line in shown()] == [
        ["title", "Alien"],
        ["plays", "0"],
        ["live", "no"],
    ]


def test_values_are_formatted_for_reading(shown):
    fields = {
        "at": datetime(2026, 1, 2, 3, 4, 5),
        "secure": True,
        "extra": {"b": [1, None]},
        "name": "[red]a\x1b[2J\nb[/red] :heart:",
    }
    print_fields(fields)
    assert [line.split(maxsplit=1)[1].rstrip() for line in shown()] == [
        "2026-01-02 03:04:05 UTC",
        "yes",
        '{"b":[1,null]}',
        "[red]a\\x1b[2J\\nb[/red] :heart:",
    ]


def test_a_long_field_is_folded_without_loss(shown):
    print_fields({"payload": "0123456789" * 30})
    lines = shown()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80
    assert "".join(line.split()[-1] for line in lines) == "0123456789" * 30


def test_a_missing_value_is_shown_as_a_dash(shown):
    print_rows(
        ("field", "discarded", "in the table"), [["title", "Alien", None], ["live", True, 0]]
    )
    assert [line.split() for line in shown()[1:]] == [["title", "Alien", "-"], ["live", "yes", "0"]]


def test_nested_times_are_shown_as_utc(capsys):
    at = datetime(2026, 1, 2)
    print_json({"a": {"at": at}, "at": at.replace(microsecond=5)})
    assert json.loads(capsys.readouterr().out) == {
        "a": {"at": "2026-01-02T00:00:00Z"},
        "at": "2026-01-02T00:00:00.000005Z",
    }
    print_fields({"at": at, "deep": {"at": at}})
    shown = " ".join(capsys.readouterr().out.split())
    assert shown == 'at 2026-01-02 00:00:00 UTC deep {"at":"2026-01-02T00:00:00Z"}'


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(title=st.text(st.characters(exclude_categories=["Cs"]), max_size=120))
def test_no_title_breaks_the_layout_of_a_page(shown, title):
    shown()
    print_page(Listing(1, [row(1, title=title)]), Page(1), COLUMNS, "plays")
    head, line, last = shown()
    assert head.startswith("id")
    assert line.startswith("1 ")
    assert last == "1 to 1 of 1 plays"
