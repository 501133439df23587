"""Damaged inputs with fixed seeds end within seconds with exit code 0 or 3, and in little memory.

`make fuzz` tries random ones for ten minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline_tests.fuzz.trials import KINDS, problems_with
from tautulli_pipeline_tests.fuzz.worker import open_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tautulli_pipeline_tests.fuzz.worker import Worker

SEEDS = {"databases": 8, "archives": 6, "messages": 1}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with open_worker(tmp_path_factory.mktemp("output")) as worker:
        yield worker


def wrong(worker: Worker, folder: Path, kind: str, seeds: range) -> dict[int, list[str]]:
    """Return what went wrong, by seed."""
    found = {}
    for seed in seeds:
        trial = folder / str(seed)
        trial.mkdir()
        found[seed] = problems_with(kind, worker, trial, seed)
    return {seed: problems for seed, problems in found.items() if problems}


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_does_anything_wrong(kind: str, worker: Worker, tmp_path: Path) -> None:
    assert wrong(worker, tmp_path, kind, range(SEEDS[kind])) == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_none_of_many_inputs_does_anything_wrong(kind: str, worker: Worker, tmp_path: Path) -> None:
    seeds = range(1000, 1000 + 20 * SEEDS[kind])
    assert wrong(worker, tmp_path, kind, seeds) == {}
