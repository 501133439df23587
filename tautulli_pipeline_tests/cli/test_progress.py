"""Import progress on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tautulli_pipeline.cli import progress as progress_module
from tautulli_pipeline.cli.progress import open_progress, showing_upgrade, time_left
from tautulli_pipeline.imports.record import ImportRecord, Outcomes, Status

RECORD = replace(
    ImportRecord.begin(Path("/media/tautulli.db"), "default", fresh=False),
    status=Status.RUNNING,
    total_records=40_000,
    elapsed_seconds=4.0,
    outcomes=Outcomes(imported=9_000, duplicates_stream=700, duplicates_cache=300, rejected=5),
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    """The terminal of a closed window."""

    def write(self, _text):
        raise OSError(5, "Input/output error")

    def flush(self):
        raise OSError(5, "Input/output error")


class ClosedTerminal(Closed, Terminal):
    pass


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown_in(stream, *steps):
    """Return the content of `stream` after these steps, without control sequences."""
    with open_progress(stream) as view:
        for step in steps:
            step(view)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_elsewhere_no_progress_is_shown():
    stream = io.StringIO()
    shown_in(stream, lambda view: view.show(RECORD), lambda view: view.show_read(5, 10))
    assert stream.getvalue() == ""


def test_a_bar_shows_what_is_stored_and_the_time_left():
    shown = shown_in(Terminal(), lambda view: view.show(RECORD))
    assert "stored 10,005 of 40,000  2,501 plays/s  ETA 0:12" in shown


def test_before_the_first_plays_are_stored_the_bar_is_empty_and_shows_what_is_published():
    begun = replace(RECORD, outcomes=Outcomes(), sent_records=20_000)
    shown = shown_in(Terminal(), lambda view: view.show(begun))
    assert "reading the database" in shown
    assert " 0% " in shown
    assert "published 20,000 of 40,000" in shown


def test_a_line_fits_into_80_columns():
    million = replace(RECORD, total_records=9_999_999, elapsed_seconds=1000.0)
    shown = shown_in(Terminal(), lambda view: view.show(million))
    assert "stored 10,005 of 9,999,999  10 plays/s  ETA 16641:40" in shown


def test_reading_is_shown():
    shown = shown_in(Terminal(), lambda view: view.show_read(700, 1_000))
    assert " 70% " in shown
    assert "read 700 of 1,000 plays" in shown


def test_no_figures_are_shown_before_the_total_is_known():
    shown = shown_in(Terminal(), lambda view: view.show(replace(RECORD, total_records=0)))
    assert "reading the database" in shown
    assert "plays" not in shown


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_each_message_is_printed_on_its_own_line(stream):
    messages = ("the stream is away", "it is full", "the stream is away")
    shown = shown_in(stream(), *(lambda view, text=text: view.say(text) for text in messages))
    found = [line.strip() for line in shown.splitlines() if "stream" in line or "full" in line]
    assert found == [*messages]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("folder", ["/data[bold]", "/a[/b]", "/[red]c", "/:heart:"])
def test_markup_in_a_folder_name_is_not_interpreted(stream, folder):
    shown = shown_in(stream(), lambda view: view.say(f"batches stay at 10 in {folder}"))
    assert f"batches stay at 10 in {folder}" in shown


@pytest.mark.parametrize("stream", [Closed, ClosedTerminal])
def test_progress_survives_a_closed_terminal(stream):
    with open_progress(stream()) as view:
        view.show(RECORD)
        view.say("the stream is away")


def test_the_bar_is_erased_at_the_end():
    stream = Terminal()
    with open_progress(stream) as view:
        view.show(RECORD)
    assert stream.getvalue().rstrip().endswith("\x1b[2K")  # the line is erased


@given(st.floats(0, 1e6), st.floats(0.1, 1e6))
@example(59.5, 1.0)
@example(3599.6, 1.0)
def test_time_left_is_formatted_as_minutes_and_seconds(seconds, rate):
    text = time_left({"records_per_second": rate, "estimated_remaining_seconds": seconds})
    minutes, _, rest = text.partition(":")
    assert re.fullmatch(r"[0-5]\d", rest)
    assert 60 * int(minutes) + int(rest) == round(seconds)


def test_without_a_rate_the_time_left_is_unknown():
    assert time_left({"records_per_second": 0.0, "estimated_remaining_seconds": 0.0}) == "-:--"


def test_a_long_copy_is_reported_in_messages_where_there_is_no_terminal(monkeypatch):
    now = iter([100.0, 100.5, 100.95, 105.0, 111.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    steps = [lambda view, n=n: view.show_copied(n * 10**6, 5 * 10**6) for n in range(1, 6)]
    assert shown_in(io.StringIO(), *steps).splitlines() == [
        "the database is being copied: copied 3 of 5 MB",
        "the database is being copied: copied 5 of 5 MB",
    ]


def test_a_copy_is_shown_on_a_terminal_from_its_begin():
    assert "copied 2 of 5 MB" in shown_in(Terminal(), lambda view: view.show_copied(2e6, 5e6))


def test_each_server_has_a_line_that_stays_with_its_result():
    stream = Terminal()
    with open_progress(stream, by_server=True) as view:
        view.of_server("home")
        view.show(RECORD)
        view.end_line("imported 40,000 plays", is_done=True)
        view.of_server("barn")
        view.end_line("failed", is_done=False)
        view.of_server("cabin")
        view.say("the stream is away")
        view.show(replace(RECORD, outcomes=Outcomes(), sent_records=20_000))
        time.sleep(0.15)  # until it is drawn
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "cabin: the stream is away" in shown
    last = [" ".join(line.replace("━", "").split()) for line in shown.splitlines() if "━" in line]
    assert last[-3:] == [
        "home 100% imported 40,000 plays",
        "barn 0% failed",
        "cabin 0% published 20,000 of 40,000",
    ]
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]+", shown))


def test_messages_about_a_server_begin_with_its_name_where_there_is_no_terminal():
    def two(view):
        for server in ("home", "cabin"):
            view.of_server(server)
            view.say("the stream is away")
            view.end_line("failed", is_done=False)

    assert shown_in(io.StringIO(), two).splitlines() == [
        "home: the stream is away",
        "cabin: the stream is away",
    ]


def test_the_upgrade_of_the_warehouse_is_shown_from_its_first_part_on():
    terminal, elsewhere, unneeded = Terminal(), io.StringIO(), io.StringIO()
    for stream in (terminal, elsewhere):
        with showing_upgrade(stream) as show:
            for done in (0, 500, 1000):
                show(done, 1000)
    with showing_upgrade(unneeded):
        pass
    for stream in (terminal, elsewhere):
        assert "the warehouse of version 0.1.0 is being upgraded" in stream.getvalue()
    assert "upgraded 1,000 of 1,000 rows" in terminal.getvalue()
    assert "%" not in elsewhere.getvalue()
    assert unneeded.getvalue() == ""
