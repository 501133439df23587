"""Detect new plays in a database at the lowest cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tautulli_pipeline.imports.fingerprints import named_by
from tautulli_pipeline.source.address import Source, Tautulli
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.tautulli_api import look


@dataclass(frozen=True)
class SourceState:
    """The state of a database when it was last checked.

    Attributes:
        files: the fingerprint, which changes with every write to the database or its log.
        rows: the number of plays; together with `last_id` it reveals every new play.
        last_id: the highest row id.
    """

    files: str
    rows: int = -1
    last_id: int = -1

    def has_new_plays_since(self, earlier: SourceState | None) -> bool:
        """Whether plays were added or removed since the `earlier` check."""
        before = (earlier.rows, earlier.last_id) if earlier else (0, 0)
        return (self.rows, self.last_id) != before


def read_source_state(
    path: Source, snapshots_dir: Path, files: str, grid: Grid | None, batch_size: int
) -> tuple[SourceState, list[str]]:
    """Count the plays in a private copy of the database, or ask a running Tautulli for them.

    Args:
        path: the database.
        snapshots_dir: the folder for the temporary copy.
        files: its fingerprint, taken before the copy.
        grid: the grid of the data directory, if it has one.
        batch_size: determines the grid if there is none.

    Returns:
        The state, and the keys of the partitions that hold plays.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    if isinstance(path, Tautulli):  # a download only to count would be repeated by the import
        newest = look(path)
        keys = [grid.partition_of(newest.row_id).key] if grid and newest.row_id else []
        return SourceState(named_by(path, newest), newest.plays, newest.row_id), keys
    with open_source(path, snapshots_dir) as source, source.open_survey() as survey:
        _, last_id = survey.id_range() or (0, 0)
        state = SourceState(files, survey.count_rows(), last_id)
        fitting = grid or Grid.fitting(batch_size, survey.count_ranges)
        return state, [partition.key for partition in survey.with_rows(fitting)]


def require_readable(path: Source, snapshots_dir: Path) -> None:
    """Check that a private copy of the database can be made and has Tautulli's tables.

    A running Tautulli is only asked for its newest play.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    if isinstance(path, Tautulli):
        look(path)
        return
    with open_source(path, snapshots_dir) as source:
        _ = source.schema
