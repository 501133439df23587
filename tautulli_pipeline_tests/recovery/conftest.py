"""An import large enough to be killed in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.command import nothing_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 30_000


def published(data_dir: Path) -> int:
    """Partitions that are published, of about 60: their receipts are there."""
    return len(list(data_dir.glob("receipts/*/0*")))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recovery") / "tautulli.db"
    make_demo_database(path, ROWS)
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    assert nothing_runs(tmp_path / "data")
