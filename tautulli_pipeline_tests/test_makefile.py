"""`make` sets up the virtual environment with the given Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

# Stands in for Python: it has a version, and creates environments whose pip has an exit code.
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exit {is_old}; fi
test "$*" = "-m venv --clear .venv" || exit 9
rm -rf .venv; mkdir -p .venv/bin
printf '#!/bin/sh\\nexit {pip_code}\\n' > .venv/bin/pip
printf '#!/bin/sh\\necho {name}\\n' > .venv/bin/tautulli-pipeline
chmod +x .venv/bin/*
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    return tmp_path


def python(folder: Path, name: str, *, is_old: bool = False, pip_code: int = 0) -> Path:
    """Create a stand-in for Python; return its path."""
    path = folder / name
    path.write_text(PYTHON.format(is_old=int(is_old), pip_code=pip_code, name=name))
    path.chmod(0o755)
    return path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # As if it was not started by another make.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["old", "missing"])
def test_an_unusable_python_is_named_before_anything_is_created(checkout: Path, name: str) -> None:
    old = python(checkout, "old", is_old=True).with_name(name)
    done = make(checkout, "demo", f"PYTHON={old}")
    assert done.returncode == 2
    assert f"{old} is not Python 3.11 or newer. Try: make demo PYTHON=python3.12\n" in done.stderr
    assert not (checkout / ".venv").exists()


def test_another_python_works_after_a_failed_try(checkout: Path) -> None:
    bad = python(checkout, "bad", pip_code=1)
    assert make(checkout, "demo", f"PYTHON={bad}").returncode == 2
    good = python(checkout, "good")
    done = make(checkout, "demo", f"PYTHON={good}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("good\n")


def test_clean_keeps_every_data_directory(checkout: Path) -> None:
    for name in (".venv", "build", "data", "demo-data"):
        (checkout / name).mkdir()
    assert make(checkout, "clean").returncode == 0
    assert not (checkout / ".venv").exists()
    assert (checkout / "data").is_dir()
    assert (checkout / "demo-data").is_dir()
