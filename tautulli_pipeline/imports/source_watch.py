"""Detect new plays in a database at the lowest cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.original import locate, observe
from tautulli_pipeline.source.partitions import Grid


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


def fingerprint(path: Path) -> str:
    """Return a fingerprint of the files at `path`, from their times, sizes and headers only.

    Raises:
        SourceError: there is no file.
    """
    original = locate(path)
    return observe(original).name_at(original)


def read_source_state(
    path: Path, snapshots_dir: Path, files: str, grid: Grid | None, batch_size: int
) -> tuple[SourceState, list[str]]:
    """Count the plays in a private copy of the database.

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
    with open_source(path, snapshots_dir) as source, source.open_survey() as survey:
        _, last_id = survey.id_range() or (0, 0)
        state = SourceState(files, survey.count_rows(), last_id)
        fitting = grid or Grid.fitting(batch_size, survey.count_ranges)
        return state, [partition.key for partition in survey.with_rows(fitting)]


def require_readable(path: Path, snapshots_dir: Path) -> None:
    """Check that a private copy of the database can be made and has Tautulli's tables.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    with open_source(path, snapshots_dir) as source:
        _ = source.schema
