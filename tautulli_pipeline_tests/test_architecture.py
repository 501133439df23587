"""Imports point one way: source -> events <- stream, warehouse <- imports <- orchestration, cli.

The data directory is known to imports and to those who start them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tautulli_pipeline

PACKAGE = Path(tautulli_pipeline.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
INNER = {"errors", "settings", "memory", "supervision"}
# What each room may import of the package; what is pure knows no settings either.
ALLOWED = {
    "events": {"events"},
    "source": {"source", "events", "errors"},
    "stream": {"stream", "data_dir", "errors", "supervision"},
    "warehouse": {"warehouse", "events", "errors"},
    "data_dir": {"data_dir", "errors", "settings"},
    "imports": {
        *("imports", "data_dir", "source", "events", "stream", "warehouse"),
        *("errors", "settings", "memory"),
    },
    "demo": {"demo", "errors"},
    "orchestration": {*ROOMS, *INNER, "definitions"} - {"serving", "cli"},
    "serving": {"serving", "orchestration", "imports", "data_dir", *INNER},
    "cli": {*ROOMS, *INNER, "definitions"} - {"events", "stream"},
}
DRIVERS = {
    "nats": {"stream"},
    "dagster": {"orchestration", "serving", "definitions.py"},
    "dagster_duckdb": {"orchestration"},
    "dagster_shared": set(),
    "sqlite3": {"source", "demo"},
    "pandas": set(),
    "duckdb": {"source", "imports", "warehouse", "orchestration"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic_settings": {"settings.py"},
}
ENVIRONMENT_READERS = {"settings.py", "memory.py", "orchestration/instance.py"}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes):
    """Full names of the modules that are imported among `nodes`."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path):
    return path.relative_to(PACKAGE).parts[0]


def in_room(room):
    return [path for path in MODULES if room_of(path) == room]


def of_the_package(path):
    parts = [name.split(".") for name in imported(ast.walk(tree_of(path)))]
    return {second[0] for first, *second in parts if first == PACKAGE.name and second}


def test_every_room_has_its_rule():
    assert set(ROOMS) == ALLOWED.keys()


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_lies_before_it(room):
    beyond = {str(path.name): of_the_package(path) - ALLOWED[room] for path in in_room(room)}
    assert {name: rooms for name, rooms in beyond.items() if rooms} == {}


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_each_driver_is_known_in_its_own_rooms_alone(driver):
    users = {
        room_of(path)
        for path in MODULES
        if driver in {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}
    }
    assert users <= DRIVERS[driver]


def test_settings_know_the_paths_of_the_data_directory_and_no_more():
    names = imported(ast.walk(tree_of(PACKAGE / "settings.py")))
    ours = {name for name in names if name.startswith(f"{PACKAGE.name}.")}
    layout, errors = f"{PACKAGE.name}.data_dir.layout", f"{PACKAGE.name}.errors"
    assert ours == {layout, f"{layout}.DataDir", errors, f"{errors}.ConfigurationError"}


def test_the_command_line_starts_without_dagster():
    """Only functions of it may reach what imports Dagster."""
    heavy = {"orchestration", "serving", "definitions"}
    for path in [*in_room("cli"), PACKAGE / "__main__.py"]:
        names = {n.split(".")[1] for n in imported(at_import_time(path)) if n.count(".")}
        assert not names & heavy, path.name


def test_the_consumer_of_an_import_does_without_dagster():
    """It is the process that grows, and it starts with every import."""
    loads = "import sys, tautulli_pipeline.imports.consumer_worker"
    done = subprocess.run(
        [sys.executable, "-c", f"{loads}; sys.exit('dagster' in sys.modules)"], check=False
    )
    assert done.returncode == 0


def test_the_guardian_of_the_stream_server_stays_small():
    """It lives as long as the server and is started by every first user of it."""
    loads = "import sys, tautulli_pipeline.stream.guardian"
    shown = "print(*(name for name in sys.modules if name.startswith('tautulli_pipeline.')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{loads}; {shown}"], check=True, capture_output=True, text=True
    )
    rooms = {f"{PACKAGE.name}.stream", f"{PACKAGE.name}.data_dir"}
    ours = {
        *(f"{PACKAGE.name}.stream.guardian", f"{PACKAGE.name}.data_dir.locks"),
        f"{PACKAGE.name}.data_dir.logs",
        f"{PACKAGE.name}.supervision",
    }
    assert set(done.stdout.split()) == rooms | ours


def at_import_time(path):
    """The nodes of a module outside of its functions."""
    waiting, found = [tree_of(path)], []
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def test_the_environment_is_touched_in_one_place():
    readers = {"environ", "environb", "getenv", "putenv", "getenvb"}
    touching = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.alias | ast.Name)
        and {getattr(node, n, None) for n in ("attr", "name", "id")} & readers
    }
    assert touching <= ENVIRONMENT_READERS


def test_pure_modules_use_neither_clock_nor_chance():
    """Events depend on the row alone, so that the same row gives the same bytes."""
    for path in in_room("events"):
        names = {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}
        assert not names & {"os", "time", "datetime", "random", "uuid", "secrets", "duckdb"}


def test_a_name_says_what_a_module_holds():
    vague = {"utils", "util", "common", "helpers", "helper", "base", "misc", "core"}
    assert {path.stem for path in MODULES} & vague == set()
    assert {*ROOMS} & vague == set()
