"""Imports large enough to be killed in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database

if TYPE_CHECKING:
    from pathlib import Path


def published(data_dir: Path) -> int:
    """Partitions that are published, of about 60: their receipts are there."""
    return len(list(data_dir.glob("receipts/*/0*")))


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo database; the test file's `ROWS` is its number of plays."""
    path = tmp_path_factory.mktemp("recovery") / "tautulli.db"
    make_demo_database(path, request.module.ROWS)
    return path
