"""How an import shows on standard error, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tautulli_pipeline.cli.progress import Pace, open_progress, time_left
from tautulli_pipeline.imports.record import ImportRecord, Outcomes, Status

RECORD = replace(
    ImportRecord.begin(Path("/media/tautulli.db"), fresh=False),
    status=Status.RUNNING,
    total_records=40_000,
    elapsed_seconds=4.0,
    outcomes=Outcomes(imported=9_000, duplicates_stream=700, duplicates_cache=300, rejected=5),
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    """The terminal of a window that is closed."""

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
    """What `stream` holds after these steps, without what only moves a cursor."""
    with open_progress(stream, Pace(every_seconds=0.0)) as view:
        for step in steps:
            step(view)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_line_tells_how_far_it_is_and_what_became_of_plays():
    shown = shown_in(io.StringIO(), lambda view: view.show(RECORD))
    assert shown == "25.0 %  2,501 rows/s  ETA 0:12  1,000 duplicates  5 rejected\n"


def test_nothing_is_shown_before_it_is_known_how_much_there_is():
    assert shown_in(io.StringIO(), lambda view: view.show(replace(RECORD, total_records=0))) == ""
    shown = shown_in(Terminal(), lambda view: view.show(replace(RECORD, total_records=0)))
    assert "reading the database" in shown
    assert "rows/s" not in shown


def test_lines_come_now_and_then_however_often_the_record_changes():
    clock, stream = [100.0], io.StringIO()
    with open_progress(stream, Pace(3.0, clock=lambda: clock[0])) as view:
        for clock[0] in (100.0, 102.9, 103.0, 103.1, 105.9, 106.0):
            view.show(RECORD)
    assert stream.getvalue().count("\n") == 2


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_is_waited_for_is_said_on_a_line_of_its_own(stream):
    words = ("the stream is away", "it is full", "the stream is away")
    shown = shown_in(stream(), *(lambda view, said=said: view.say(said) for said in words))
    found = [line.strip() for line in shown.splitlines() if "stream" in line or "full" in line]
    assert found == [*words]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("folder", ["/data[bold]", "/a[/b]", "/[red]c", "/:heart:"])
def test_a_folder_with_brackets_is_named_as_it_is(stream, folder):
    shown = shown_in(stream(), lambda view: view.say(f"batches stay at 10 in {folder}"))
    assert f"batches stay at 10 in {folder}" in shown


@pytest.mark.parametrize("stream", [Closed, ClosedTerminal])
def test_an_import_does_not_end_with_the_window_of_its_terminal(stream):
    with open_progress(stream()) as view:
        view.show(RECORD)
        view.say("the stream is away")


def test_the_bar_is_gone_when_the_import_is_done():
    stream = Terminal()
    with open_progress(stream) as view:
        view.show(RECORD)
    assert stream.getvalue().rstrip().endswith("\x1b[2K")  # the line is erased


@given(st.floats(0, 1e6), st.floats(0.1, 1e6))
@example(59.5, 1.0)
@example(3599.6, 1.0)
def test_time_left_is_minutes_and_two_digits_of_seconds(seconds, rate):
    words = time_left({"records_per_second": rate, "estimated_remaining_seconds": seconds})
    minutes, _, rest = words.partition(":")
    assert re.fullmatch(r"[0-5]\d", rest)
    assert 60 * int(minutes) + int(rest) == round(seconds)


def test_without_a_rate_nobody_knows_how_long_it_takes():
    assert time_left({"records_per_second": 0.0, "estimated_remaining_seconds": 0.0}) == "-:--"
