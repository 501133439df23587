from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline_tests.command import nothing_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory that is not there yet; nothing may run for it afterwards."""
    yield tmp_path / "data"
    assert nothing_runs(tmp_path / "data")
