"""Whatever ends a command is one or two lines and an exit code."""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline import errors
from tautulli_pipeline.cli.faults import run_reporting_faults, without_controls
from tautulli_pipeline.errors import PipelineError


@pytest.fixture
def stderr(monkeypatch):
    """Standard error itself, which is not what Python code may have put in its place."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    return stream


def ends_with(fault, *arguments):
    """Exit code of a command that ends so."""

    @click.group()
    @click.option("--json", "as_json", is_flag=True)
    @click.option("--debug", is_flag=True)
    def application(as_json, debug):
        pass

    @application.command()
    def work():
        if fault is not None:
            raise fault

    return run_reporting_faults(application, [*arguments, "work"])


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (errors.PipelineError, 1),
        (errors.ConfigurationError, 2),
        (errors.SourceError, 3),
        (errors.SourceDamagedError, 3),
        (errors.SourceChangedError, 3),
        (errors.ImportRunningError, 4),
        (errors.StreamError, 5),
        (errors.WarehouseError, 6),
        (errors.StoppedError, 130),
    ],
)
def test_each_fault_has_its_exit_code_its_line_and_its_remedy(stderr, capsys, kind, exit_code):
    assert ends_with(kind("it is so", hint="do that")) == exit_code
    assert ends_with(kind("no remedy")) == exit_code
    assert stderr.getvalue() == (
        "tautulli-pipeline: it is so\n  do that\ntautulli-pipeline: no remedy\n"
    )
    assert capsys.readouterr().out == ""


def test_success_is_silent(stderr, capsys):
    assert ends_with(None) == 0
    assert (stderr.getvalue(), capsys.readouterr().out) == ("", "")


def test_programs_get_one_object_with_what_is_known(stderr, capsys):
    fault = errors.ImportRunningError("one runs", hint="wait", progress={"progress": 12.5})
    assert ends_with(fault, "--json") == 4
    assert json.loads(capsys.readouterr().out) == {
        "error": "one runs",
        "hint": "wait",
        "progress": {"progress": 12.5},
    }
    assert stderr.getvalue().startswith("tautulli-pipeline: one runs\n")
    assert "progress" not in errors.ImportRunningError("one runs").facts


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (ValueError("first\nsecond"), "unexpected ValueError: first"),
        (ZeroDivisionError(), "unexpected ZeroDivisionError: no message"),
        (OSError(28, "No space left"), "unexpected OSError: [Errno 28] No space left"),
    ],
)
def test_what_nobody_expected_is_one_line_as_well(stderr, fault, line):
    assert ends_with(fault) == 1
    told, hint = stderr.getvalue().splitlines()
    assert told == f"tautulli-pipeline: {line}"
    assert "--debug" in hint


def test_only_debugging_shows_where_it_was(stderr, capsys):
    ends_with(PipelineError("it is so"))
    assert "Traceback" not in capsys.readouterr().err
    ends_with(PipelineError("it is so"), "--debug")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_a_stop(stderr, fault):
    assert ends_with(fault) == 130
    assert stderr.getvalue() == "tautulli-pipeline: stopped\n"


def test_bad_usage_is_a_bad_configuration(stderr, capsys):
    assert ends_with(click.UsageError("no such thing"), "--json") == 2
    assert json.loads(capsys.readouterr().out) == {"error": "no such thing", "hint": "see --help"}


def test_a_name_in_a_message_moves_no_cursor_and_breaks_no_line(stderr, capsys):
    fault = PipelineError("cannot read a\nb\x1b[2Jc\udcff.db")
    assert ends_with(fault, "--json") == 1
    shown = "cannot read a\\nb\\x1b[2Jc\\udcff.db"
    assert stderr.getvalue() == f"tautulli-pipeline: {shown}\n"
    assert json.loads(capsys.readouterr().out)["error"] == shown


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("\x1b\x85\u2028\udcff\n")))
def test_text_is_kept_but_for_what_is_none(text):
    shown = without_controls(text)
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_where_nobody_reads_any_more_the_exit_code_has_to_do(monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as nobody:
        monkeypatch.setattr(sys, "__stderr__", nobody)
        assert ends_with(PipelineError("it is so")) == 1
        nobody.write("and nothing fails at the end of Python")
