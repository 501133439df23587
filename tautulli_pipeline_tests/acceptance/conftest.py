"""Import several databases at the same time, each into its own data directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tautulli_pipeline_tests.command import Outcome, nothing_runs, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Import:
    """The outcome and the data directory of one `import` command."""

    data_dir: Path
    outcome: Outcome

    @property
    def summary(self) -> Any:
        return self.outcome.json


def import_each(databases: Mapping[str, Path], folder: Path) -> dict[str, Import]:
    """Import each database into `folder`/<name>, two at a time."""

    def import_one(name: str) -> Import:
        data_dir = folder / name
        return Import(data_dir, run("import", databases[name], "--json", data_dir=data_dir))

    with ThreadPoolExecutor(2) as pool:
        imports = dict(zip(databases, pool.map(import_one, databases), strict=True))
    assert nothing_runs(folder)
    return imports
