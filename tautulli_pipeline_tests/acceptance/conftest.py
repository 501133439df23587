"""Import several databases, each into its own data directory."""

from __future__ import annotations

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
    """Import each database into `folder`/<name>."""
    imports = {}
    for name, database in databases.items():
        data_dir = folder / name
        outcome = run("import", database, "--json", data_dir=data_dir)
        imports[name] = Import(data_dir, outcome)
    assert nothing_runs(folder)
    return imports
