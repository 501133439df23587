"""Subpackages import each other in one direction only, and each driver has its place.

From top to bottom: cli; serving; orchestration; reporting; imports and analytics; source, stream
and warehouse; events and data_dir.
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
SUBPACKAGES = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
TOP_LEVEL = {"errors", "settings", "configuration", "memory", "printable", "supervision"}
# The modules of the package that each subpackage may import.
ALLOWED = {
    "events": {"events"},
    "source": {"source", "events", "errors"},
    "stream": {"stream", "data_dir", "errors", "supervision"},
    "warehouse": {"warehouse", "events", "errors", "memory"},
    "analytics": {
        *("analytics", "warehouse", "data_dir", "events", "errors", "memory", "settings"),
    },
    "data_dir": {"data_dir", "errors", "printable", "settings"},
    "imports": {
        *("imports", "data_dir", "source", "events", "stream", "warehouse"),
        *("errors", "settings", "configuration", "memory", "printable"),
    },
    "reporting": {
        *("reporting", "analytics", "warehouse", "data_dir", "events"),
        *("errors", "settings", "printable"),
    },
    "demo": {"demo", "errors"},
    "orchestration": {*SUBPACKAGES, *TOP_LEVEL, "definitions"} - {"serving", "cli"},
    "serving": {
        *("serving", "orchestration", "reporting", "imports", "source", "data_dir"),
        *TOP_LEVEL,
    },
    "cli": {*SUBPACKAGES, *TOP_LEVEL, "definitions"} - {"events", "stream"},
}
DRIVERS = {
    "nats": {"stream"},
    "dagster": {"orchestration", "serving", "definitions.py"},
    "dagster_duckdb": {"orchestration"},
    "dagster_shared": set(),
    "sqlite3": {"source", "demo", "imports"},
    "fastapi": {"serving"},
    "pandas": {"analytics"},
    "matplotlib": {"analytics", "reporting"},
    "jinja2": {"reporting"},
    "duckdb": {"source", "imports", "warehouse", "analytics", "reporting", "orchestration"},
    "click": {"cli"},
    "rich": {"cli"},
    "urllib3": {"source"},
    "pydantic_settings": set(),
}
ENVIRONMENT_READERS = {"settings.py", "memory.py", "orchestration/instance.py"}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes):
    """Return the full names of the modules that `nodes` import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def subpackage_of(path):
    return path.relative_to(PACKAGE).parts[0]


def modules_of(subpackage):
    return [path for path in MODULES if subpackage_of(path) == subpackage]


def package_imports(path):
    parts = [name.split(".") for name in imported(ast.walk(tree_of(path)))]
    return {second[0] for first, *second in parts if first == PACKAGE.name and second}


def test_every_subpackage_has_a_rule():
    assert set(SUBPACKAGES) == ALLOWED.keys()


@pytest.mark.parametrize("subpackage", sorted(ALLOWED))
def test_a_subpackage_imports_only_allowed_ones(subpackage):
    forbidden = {
        str(path.name): package_imports(path) - ALLOWED[subpackage]
        for path in modules_of(subpackage)
    }
    assert {name: subpackages for name, subpackages in forbidden.items() if subpackages} == {}


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_each_driver_is_imported_only_where_allowed(driver):
    users = {
        subpackage_of(path)
        for path in MODULES
        if driver in {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}
    }
    assert users <= DRIVERS[driver]


def test_settings_import_only_the_values_that_they_hold():
    names = imported(ast.walk(tree_of(PACKAGE / "settings.py")))
    ours = {name for name in names if name.startswith(f"{PACKAGE.name}.")}
    allowed = {
        "data_dir.files": ["write_atomically"],
        "data_dir.layout": ["DataDir"],
        "errors": ["ConfigurationError"],
        "events.servers": ["Servers"],
        "configuration": [
            *("Configuration", "Server", "is_address", "known_zone"),
            *("parse_configuration", "read_configuration"),
        ],
    }
    modules = {f"{PACKAGE.name}.{module}" for module in allowed}
    found = {f"{PACKAGE.name}.{m}.{name}" for m, names in allowed.items() for name in names}
    assert ours == modules | found


def test_the_command_line_starts_without_importing_dagster():
    """Only functions may import modules that import Dagster."""
    heavy = {"orchestration", "serving", "definitions"}
    for path in [*modules_of("cli"), PACKAGE / "__main__.py"]:
        names = {n.split(".")[1] for n in imported(at_import_time(path)) if n.count(".")}
        assert not names & heavy, path.name


def test_the_consumer_process_does_not_import_dagster():
    """The consumer process uses the most memory and starts with every import."""
    loads = "import sys, tautulli_pipeline.imports.consumer_worker"
    done = subprocess.run(
        [sys.executable, "-c", f"{loads}; sys.exit('dagster' in sys.modules)"], check=False
    )
    assert done.returncode == 0


def test_the_guardian_of_the_stream_server_stays_small():
    """It runs as long as the server, and the server's first user waits for its start."""
    loads = "import sys, tautulli_pipeline.stream.guardian"
    shown = "print(*(name for name in sys.modules if name.startswith('tautulli_pipeline.')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{loads}; {shown}"], check=True, capture_output=True, text=True
    )
    subpackages = {f"{PACKAGE.name}.stream", f"{PACKAGE.name}.data_dir"}
    ours = {
        *(f"{PACKAGE.name}.stream.guardian", f"{PACKAGE.name}.data_dir.locks"),
        *(f"{PACKAGE.name}.data_dir.logs", f"{PACKAGE.name}.printable"),
        f"{PACKAGE.name}.supervision",
    }
    assert set(done.stdout.split()) == subpackages | ours


def at_import_time(path):
    """Return the nodes of a module outside its functions."""
    pending, found = [tree_of(path)], []
    while pending:
        node = pending.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


def test_the_environment_is_accessed_only_in_allowed_modules():
    readers = {"environ", "environb", "getenv", "putenv", "getenvb"}
    touching = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.alias | ast.Name)
        and {getattr(node, n, None) for n in ("attr", "name", "id")} & readers
    }
    assert touching <= ENVIRONMENT_READERS


def test_the_events_subpackage_is_deterministic():
    """Events depend only on the row: the same row always gives the same bytes."""
    for path in modules_of("events"):
        names = {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}
        assert not names & {"os", "time", "datetime", "random", "uuid", "secrets", "duckdb"}


def test_module_names_are_not_vague():
    vague = {"utils", "util", "common", "helpers", "helper", "base", "misc", "core"}
    assert {path.stem for path in MODULES} & vague == set()
    assert {*SUBPACKAGES} & vague == set()
