"""Shared fixtures, and the selection of tests that measure coverage in child processes.

Each fixture imports its own dependencies, because most tests need only a few fixtures.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

# Other processes of the suite can delay any example. Every run tries the same examples, so that a
# test fails only if something has changed; `--hypothesis-profile=random` tries others.
hypothesis_settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis_settings.register_profile("random", deadline=None)
hypothesis_settings.load_profile("suite")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb

    from tautulli_pipeline.imports.record import ImportLog
    from tautulli_pipeline.settings import Settings
    from tautulli_pipeline.stream.address import StreamAddress
    from tautulli_pipeline.stream.server import ServerAddress

# Measuring coverage makes a command take 50 % longer, and these tests cover everything that the
# commands in other tests do.
MEASURED = {
    "orchestration.test_checks",
    "orchestration.test_runs",
    "serving.test_serving",
}


@pytest.fixture(scope="module", autouse=True)
def _measure_children_of_selected_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    name = request.module.__name__.partition(".")[2]
    with pytest.MonkeyPatch.context() as patched:
        if name not in MEASURED and not name.startswith("stream."):
            for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
                patched.delenv(variable, raising=False)
        yield


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory that does not exist yet; after the test, no process may use it."""
    from tautulli_pipeline_tests.command import nothing_runs

    yield tmp_path / "data"
    assert nothing_runs(tmp_path / "data")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data directory exists and is empty."""
    from tautulli_pipeline.settings import Settings

    return Settings(pipeline_data_dir=tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> ImportLog:
    """The empty import log of the data directory of `settings`."""
    from tautulli_pipeline.imports.record import ImportLog

    return ImportLog(tmp_path)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A Tautulli database with the test module's `PLAYS`, by default two plays."""
    from tautulli_pipeline_tests.cases import make_database, play

    path = tmp_path / "tautulli.db"
    make_database(path, plays=getattr(request.module, "PLAYS", [play(1), play(2)]))
    return path


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty in-memory warehouse."""
    from tautulli_pipeline_tests.warehouse.plays import memory_warehouse

    with memory_warehouse() as connection:
        yield connection


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty DuckDB connection."""
    import duckdb

    with duckdb.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerAddress]:
    """An embedded stream server; tests must delete their streams."""
    from tautulli_pipeline.stream.server import embedded_server

    with embedded_server(tmp_path_factory.mktemp("stream")) as address:
        yield address


@pytest.fixture
def address(server: ServerAddress) -> Iterator[StreamAddress]:
    """The address of an unused stream on the shared server; deletes all streams after the test."""
    from tautulli_pipeline_tests.stream.servers import address_on, delete_stream

    given = address_on(server)
    yield given
    asyncio.run(delete_stream(given))
