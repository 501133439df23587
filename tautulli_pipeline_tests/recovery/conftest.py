"""A database large enough to kill its import halfway."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import ONLY

if TYPE_CHECKING:
    from pathlib import Path


def published(data_dir: Path) -> int:
    """Return how many of about 60 partitions are published, by their receipts."""
    return len(list(data_dir.glob("receipts/*/0*")))


def publications(data_dir: Path) -> Counter[str]:
    """Return how often each partition was published, according to Dagster."""
    with open_instance(data_dir) as instance:
        found = instance.fetch_materializations(ONLY.stream_key, limit=5000).records
        return Counter(str(record.partition_key) for record in found)


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo database with as many plays as the test module's `ROWS`."""
    path = tmp_path_factory.mktemp("recovery") / "tautulli.db"
    make_demo_database(path, request.module.ROWS)
    return path
