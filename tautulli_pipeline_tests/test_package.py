"""The wheel, installed outside of the checkout."""

from __future__ import annotations

import json
import os
import signal
import site
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tautulli_pipeline_tests.served import free_port

CHECKOUT = Path(__file__).parents[1]
BUILD = """
import sys
from flit_core.buildapi import build_sdist, build_wheel
print(build_wheel(sys.argv[1]), build_sdist(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def built(folder: Path) -> list[Path]:
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, folder],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [folder / name for name in ran.stdout.split()]


@pytest.fixture(scope="module")
def installed(folder: Path, built: list[Path]) -> Path:
    """The programs of an environment with the wheel and the packages that it needs."""
    venv.create(folder / "env", symlinks=True, with_pip=False)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--disable-pip-version-check", built[0]], check=True
    )
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    # The folder of the packages, without its .pth files: they would add this checkout.
    (packages / "shared.pth").write_text("\n".join(site.getsitepackages()))
    return python.parent


def environment(installed: Path) -> dict[str, str]:
    # nats-server is beside the interpreter of the shared packages.
    return {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(installed.parent)}


def run(installed: Path, *arguments: object) -> Any:
    """Run the installed command far from the checkout; return its JSON."""
    ran = subprocess.run(
        [installed / "tautulli-pipeline", *map(str, arguments), "--json"],
        cwd=installed.parent,
        env=environment(installed),
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(ran.stdout)


def test_the_sdist_holds_the_licence_and_the_sources(built: list[Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tautulli_pipeline/dagster.yaml"} <= names


def test_the_wheel_is_used_instead_of_the_checkout(installed: Path) -> None:
    command = [installed / "python", "-c", "import tautulli_pipeline as p; print(p.__file__)"]
    ran = subprocess.run(command, cwd=installed.parent, check=True, capture_output=True, text=True)
    assert Path(ran.stdout.strip()).is_relative_to(installed.parent)


def test_the_installed_command_makes_and_imports_the_demo(installed: Path) -> None:
    assert run(installed, "--version")["dagster"]
    done = run(installed, "demo", "--rows", 300)
    assert (done["status"], done["imported"]) == ("completed", 300)
    assert (installed.parent / "demo-data" / "playback.duckdb").exists()


@pytest.mark.slow
def test_the_installed_command_serves_dagster_and_the_api(installed: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [installed / "tautulli-pipeline", "up", "--port", str(port)],
        cwd=installed.parent,
        env=environment(installed),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith(f"http://127.0.0.1:{port} "), first
            with urlopen(f"http://127.0.0.1:{port}/api/v1/import/status") as answer:
                assert json.load(answer)["status"] == "pending"
            with urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert b"Dagster" in answer.read()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)
    assert process.returncode == 130
