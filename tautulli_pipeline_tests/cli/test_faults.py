"""Every error is reported in one or two lines, with an exit code."""

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
from tautulli_pipeline.cli.faults import run_reporting_faults
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.printable import without_controls


@pytest.fixture
def stderr(monkeypatch):
    """Replace the original standard error, which is not `sys.stderr` if that is redirected."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    return stream


def exit_code_of(fault, *arguments):
    """Return the exit code of a command that raises `fault`."""

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
def test_each_error_has_its_message_hint_and_exit_code(stderr, capsys, kind, exit_code):
    assert exit_code_of(kind("it failed", hint="do that")) == exit_code
    assert exit_code_of(kind("no hint")) == exit_code
    assert stderr.getvalue() == (
        "tautulli-pipeline: it failed\n  do that\ntautulli-pipeline: no hint\n"
    )
    assert capsys.readouterr().out == ""


def test_success_prints_nothing(stderr, capsys):
    assert exit_code_of(None) == 0
    assert (stderr.getvalue(), capsys.readouterr().out) == ("", "")


def test_json_output_contains_all_facts_of_the_error(stderr, capsys):
    fault = errors.ImportRunningError("one runs", hint="wait", progress={"progress": 12.5})
    assert exit_code_of(fault, "--json") == 4
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
def test_an_unexpected_error_is_reported_in_one_line(stderr, fault, line):
    assert exit_code_of(fault) == 1
    message, hint = stderr.getvalue().splitlines()
    assert message == f"tautulli-pipeline: {line}"
    assert "--debug" in hint


def test_only_debug_shows_a_traceback(stderr, capsys):
    exit_code_of(PipelineError("it failed"))
    assert "Traceback" not in capsys.readouterr().err
    exit_code_of(PipelineError("it failed"), "--debug")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_exits_with_130(stderr, fault):
    assert exit_code_of(fault) == 130
    assert stderr.getvalue() == "tautulli-pipeline: stopped\n"


def test_wrong_usage_exits_with_2(stderr, capsys):
    assert exit_code_of(click.UsageError("no such thing"), "--json") == 2
    assert json.loads(capsys.readouterr().out) == {"error": "no such thing", "hint": "see --help"}


def test_control_characters_in_a_message_are_escaped(stderr, capsys):
    fault = PipelineError("cannot read a\nb\x1b[2Jc\udcff.db")
    assert exit_code_of(fault, "--json") == 1
    shown = "cannot read a\\nb\\x1b[2Jc\\udcff.db"
    assert stderr.getvalue() == f"tautulli-pipeline: {shown}\n"
    assert json.loads(capsys.readouterr().out)["error"] == shown


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("\x1b\x85\u2028\udcff\n")))
def test_only_control_characters_and_invalid_text_are_escaped(text):
    shown = without_controls(text)
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_the_exit_code_is_kept_if_standard_error_is_closed(monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        monkeypatch.setattr(sys, "__stderr__", closed)
        assert exit_code_of(PipelineError("it failed")) == 1
        closed.write("this write must not fail")
