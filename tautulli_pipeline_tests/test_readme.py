"""The README and docs/guarantees.md match the code."""

import ast
import re
from pathlib import Path

import click
import pytest

from tautulli_pipeline.cli.app import application
from tautulli_pipeline.settings import Settings

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text()
GUARANTEES = (CHECKOUT / "docs" / "guarantees.md").read_text()


def _table_rows():
    for line in README.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            yield cells


def test_the_settings_table_lists_exactly_the_variables():
    listed = {name for cells in _table_rows() for name in re.findall(r"`([A-Z_]+)`", cells[0])}
    assert listed == {name.upper() for name in Settings.model_fields}


def test_the_settings_table_shows_the_defaults():
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    for cells in _table_rows():
        for name in re.findall(r"`([A-Z_]+)`", cells[0]):
            shown = cells[1]
            if shown == "-" or shown.startswith("`"):
                assert defaults[name] in {None, ()}
            else:
                assert shown == str(defaults[name]).lower() or shown == str(defaults[name])


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", re.findall(r"bin/tautulli-pipeline ([\w-]+)", README))
def test_every_command_exists(command):
    assert isinstance(application, click.Group)
    assert command in application.commands


@pytest.mark.parametrize("page", re.findall(r"\]\(([\w/.]+)\)", README))
def test_every_linked_page_exists(page):
    assert (CHECKOUT / page).is_file()


def _guarantees():
    """Yield the result and the tests of each row of the table."""
    rows = [line for line in GUARANTEES.splitlines() if line.startswith("| ")][1:]
    for row in rows:
        *_, text, _, last, _ = row.split("|")
        yield text.strip(), re.findall("`([^`]+)`", last)


@pytest.mark.parametrize(("guarantee", "tests"), list(_guarantees()))
def test_every_guarantee_names_existing_tests(guarantee, tests):
    assert tests, guarantee
    for test in tests:
        file, _, function = test.partition("::")
        tree = ast.parse((CHECKOUT / "tautulli_pipeline_tests" / file).read_text())
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert any(name.startswith("test_") for name in found)
        assert not function or function in found, test
