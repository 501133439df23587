"""Line wrapping: only on a terminal, only between words."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautulli_pipeline.cli.lines import (
    print_commands,
    print_line,
    print_notice,
    program,
    wrap_for,
)

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


def _install(folder: Path) -> Path:
    folder.mkdir(parents=True)
    script = folder / "tautulli-pipeline"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


def test_a_program_on_the_path_is_named_by_its_name(monkeypatch, tmp_path):
    script, links = _install(tmp_path / "tool"), tmp_path / "bin"
    links.mkdir()
    (links / script.name).symlink_to(script)
    monkeypatch.setenv("PATH", str(links))
    for started in (script, links / script.name, tmp_path / "tautulli_pipeline" / "__main__.py"):
        monkeypatch.setattr(sys, "argv", [str(started)])
        assert program() == "tautulli-pipeline"


def test_a_program_of_a_checkout_is_named_as_it_was_started(monkeypatch, tmp_path):
    _install(tmp_path / "a b" / "bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["a b/bin/tautulli-pipeline"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == "'a b/bin/tautulli-pipeline'"
    monkeypatch.setenv("PATH", str(_install(tmp_path / "other").parent))
    assert program() == "'a b/bin/tautulli-pipeline'"


def test_commands_are_never_broken(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    print_commands({"UI": "pipeline up", "charts": "pipeline"})
    assert capsys.readouterr().out == "UI      pipeline up\ncharts  pipeline\n"
    print_commands({"UI": "pipeline up", "charts": "pipeline report --open"})
    assert capsys.readouterr().out == "UI:\n  pipeline up\ncharts:\n  pipeline report --open\n"
