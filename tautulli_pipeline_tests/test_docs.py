"""The pages of docs/ match the code, and make a site without outside parts."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from annotated_types import Ge, Le

import tautulli_pipeline
from tautulli_pipeline.cli.app import application
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests import documented_tables

CHECKOUT = Path(__file__).parents[1]
PAGES = sorted((CHECKOUT / "docs").rglob("*.md"))
WRITTEN = [CHECKOUT / "README.md", *PAGES]
WORD = r""" (?:"[^"\n]*"|'[^'\n]*'|[^\s`#>|&;)"']+)+"""
COMMAND = re.compile(rf"(?:^|[\s`(])(?:\.venv/bin/)?tautulli-pipeline((?:{WORD})*)")
# The words of messages with a variable part in between.
SAID = " ".join(
    node.value
    for path in Path(tautulli_pipeline.__file__).parent.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
)


def named(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def rows(page: str) -> list[list[str]]:
    """Return the cells of each row that begins with code."""
    lines = (CHECKOUT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines
        if line.startswith("| `")
    ]


def commands_in(path: Path) -> list[str]:
    """Return what follows `tautulli-pipeline` in code, without comments and shell operators."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for part in (*blocks, *inline) for line in part.splitlines()]
    return [found.strip() for line in lines for found in COMMAND.findall(line) if found.strip()]


def require_parsed(words: list[str]) -> None:
    """Parse a command line as the command would, without running it."""
    command: click.Command = application
    context = click.Context(application, info_name="tautulli-pipeline")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    for word in words:
        assert not word.startswith("-") or word.partition("=")[0] in known, f"no option {word}"
    if not isinstance(command, click.Group) and not {"-h", "--help"} & {*words}:
        with context.scope(cleanup=False):
            command.make_context(context.info_name, [*words])


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_every_command_in_the_pages_exists_with_its_options(path):
    for line in commands_in(path):
        # Placeholders and names in capitals stand for a value.
        if "..." in line:
            continue
        words = [re.sub(r"^(N|HOURS|SECONDS)$", "9", word) for word in shlex.split(line)]
        require_parsed(words)


def test_commands_are_found_in_the_pages():
    found = {line.split()[0] for path in WRITTEN for line in commands_in(path)}
    assert found >= {"import", "validate", "status", "health", "stop", "reset", "up", "demo"}


@pytest.mark.parametrize("line", ["imports x", "import --no-such-option", "health --max-age soon"])
def test_a_wrong_command_is_noticed(line):
    with pytest.raises((AssertionError, click.UsageError)):
        require_parsed(line.split())


def test_the_settings_page_lists_exactly_the_variables():
    listed = [name for cells in rows("settings.md") for name in re.findall(r"\w+", cells[0])]
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_the_settings_page_shows_the_defaults_and_limits():
    for cells in rows("settings.md"):
        for name in re.findall(r"\w+", cells[0]):
            field = Settings.model_fields[name.lower()]
            if cells[1] == "-" or cells[1].startswith("`"):
                assert field.default in {None, ()}, name
            else:
                assert cells[1] in {str(field.default).lower(), str(field.default)}, name
            limits = [limit.ge for limit in field.metadata if isinstance(limit, Ge)]
            limits += [limit.le for limit in field.metadata if isinstance(limit, Le)]
            if limits:
                assert cells[2] == f"{limits[0]} to {limits[1]}", name


def test_the_page_of_tables_is_up_to_date():
    assert documented_tables.PAGE.read_text(encoding="utf-8") == documented_tables.page(), (
        "write it again: python -m tautulli_pipeline_tests.documented_tables"
    )


def exit_codes(kind: type[PipelineError] = PipelineError) -> set[int]:
    return {kind.exit_code}.union(*(exit_codes(one) for one in kind.__subclasses__()))


def test_the_page_of_faults_has_every_exit_code():
    text = (CHECKOUT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == {
        0,
        *exit_codes(),
    }


@pytest.mark.parametrize("words", [cells[0].strip("`") for cells in rows("faults.md")])
def test_every_message_on_the_page_of_faults_is_in_the_code(words):
    assert words in SAID


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a broken link or a page that is not in the navigation is an error."""
    folder = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=CHECKOUT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site):
    assert len(list(site.rglob("*.html"))) == len(PAGES) + 1  # and the page for errors
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"""<(?:script|img|iframe)[^>]+src=["']?https?:""", text), page
        assert not re.findall(r"""<link[^>]+(?:stylesheet|preconnect)[^>]+https?:""", text), page
        assert not re.findall(r"""url\(["']?https?:""", text), page
