"""Output of the commands, as text and as JSON."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tautulli_pipeline.cli.lines import print_line
from tautulli_pipeline.cli.reporting import print_json, report_unreadable


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_json_is_one_object_on_its_own_line(capsys):
    print_json({"title": "Ærø", "at": datetime(2026, 1, 1), "none": None})
    out = capsys.readouterr().out
    assert json.loads(out) == {"title": "Ærø", "at": "2026-01-01T00:00:00Z", "none": None}
    assert out.endswith("}\n")


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/b]", ":heart:", "7 of 8", "x" * 200])
def test_markup_in_a_line_is_not_interpreted(capsys, name):
    print_line(f"/data/{name}/playback.duckdb")
    assert capsys.readouterr().out == f"/data/{name}/playback.duckdb\n"


def test_each_damaged_table_has_its_own_line(capsys):
    report_unreadable(())
    assert capsys.readouterr().err == ""
    damage = {"table": "session_history", "rows": 2, "ids": ["4", "9"], "cause": "page 7 is torn"}
    report_unreadable((damage, damage | {"rows": 1, "ids": ["11"]}))
    assert capsys.readouterr().err == (
        "could not read 2 rows of session_history, id 4, 9 (page 7 is torn)\n"
        "could not read 1 row of session_history, id 11 (page 7 is torn)\n"
    )
