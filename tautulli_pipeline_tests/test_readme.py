"""The README and docs/guarantees.md match the code."""

import ast
import re
from pathlib import Path

import click
import pytest

from tautulli_pipeline.cli.app import application

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text()
GUARANTEES = (CHECKOUT / "docs" / "guarantees.md").read_text()


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
