"""Line wrapping: only on a terminal, only between words."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautulli_pipeline.cli.lines import print_line, print_notice, wrap_for

MESSAGE = (
    "cannot read all of /media/tautulli.db: 12 rows of session_history, id 5-16 "
    "(database disk image is malformed)"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """Return a function that sets the width of the terminal."""

    def width(columns):
        monkeypatch.setenv("COLUMNS", str(columns))

    monkeypatch.setenv("TERM", "xterm")
    width(40)
    return width


def test_a_message_is_wrapped_to_the_terminal_width():
    assert wrap_for(Terminal(), MESSAGE).splitlines() == [
        "cannot read all of /media/tautulli.db:",
        "12 rows of session_history, id 5-16",
        "(database disk image is malformed)",
    ]


def test_the_indent_is_repeated_on_each_line():
    assert wrap_for(Terminal(), MESSAGE, indent="  ").splitlines() == [
        "  cannot read all of /media/tautulli.db:",
        "  12 rows of session_history, id 5-16",
        "  (database disk image is malformed)",
    ]


def test_a_message_stays_on_one_line_elsewhere():
    assert wrap_for(io.StringIO(), MESSAGE) == MESSAGE
    assert wrap_for(io.StringIO(), MESSAGE, indent="  ") == f"  {MESSAGE}"


def test_a_message_that_fits_is_not_changed(width):
    width(len(MESSAGE))
    assert wrap_for(Terminal(), MESSAGE) == MESSAGE
    assert wrap_for(Terminal(), "") == ""


@pytest.mark.parametrize(
    "part",
    [
        "x" * 100,
        "/a-path/" + "x" * 100,
        "PIPELINE_DATA_DIR='/mnt/not-mounted/data'",
    ],
)
@pytest.mark.parametrize("columns", [12, 30, 50])
def test_words_are_never_broken(width, part, columns):
    width(columns)
    text = f"this is not readable: {part} and here are some more words"
    lines = wrap_for(Terminal(), text).splitlines()
    assert " ".join(lines) == text
    assert sum(part in line for line in lines) == 1
    assert all(len(line) <= columns or " " not in line for line in lines)


def test_text_after_a_path_is_wrapped():
    text = "the file /a/b is open in process 5 (python /x/y.py); close it, /c/d and more"
    assert wrap_for(Terminal(), text).splitlines() == [
        "the file /a/b is open in process 5",
        "(python /x/y.py); close it, /c/d and",
        "more",
    ]


@given(st.lists(st.text("ab/'`\"(:=.", min_size=1), min_size=1).map(" ".join))
def test_wrapping_changes_only_spaces(text):
    assert wrap_for(Terminal(), text).replace("\n", " ") == text


def test_both_streams_are_wrapped_if_they_are_terminals(monkeypatch):
    for name, write in (("stdout", print_line), ("stderr", print_notice)):
        for stream in (Terminal(), io.StringIO()):
            monkeypatch.setattr(sys, name, stream)
            write(MESSAGE)
            assert stream.getvalue() == f"{wrap_for(stream, MESSAGE)}\n"
