"""Fixtures: the user's folder, a database in it, and the folder for private copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline_tests.source.plain_database import make_plain_database

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's folder; it does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def database(home: Path) -> Path:
    """A plain database of 100 rows."""
    return make_plain_database(home / "tautulli.db")


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """The folder for private copies; it does not exist yet."""
    return tmp_path / "data" / "snapshots"
