"""Whether a database holds plays that were not seen before, found out at the least cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.original import locate, observe
from tautulli_pipeline.source.partitions import Grid


@dataclass(frozen=True)
class Glance:
    """What a database held when it was last looked at.

    Attributes:
        files: changes with every write to the database or its log.
        rows: how many plays it held; with `last_id` it tells of every play that is new.
    """

    files: str
    rows: int = -1
    last_id: int = -1

    def shows_new_plays(self, earlier: Glance | None) -> bool:
        """Whether it holds other plays than at the `earlier` look."""
        before = (earlier.rows, earlier.last_id) if earlier else (0, 0)
        return (self.rows, self.last_id) != before


def fingerprint(path: Path) -> str:
    """Name the state of the files at `path` by their times, sizes and headers alone.

    Raises:
        SourceError: there is no file.
    """
    original = locate(path)
    return observe(original).name_at(original)


def look_into(
    path: Path, snapshots_dir: Path, files: str, grid: Grid | None, batch_size: int
) -> tuple[Glance, list[str]]:
    """Count the plays in a private copy; gives the partitions that hold some as well.

    Args:
        path: the database.
        snapshots_dir: where the copy is made for the time being.
        files: its fingerprint, taken before.
        grid: the grid of the data directory, where there is one.
        batch_size: decides the grid where there is none.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    with open_source(path, snapshots_dir) as source, source.open_survey() as survey:
        _, last_id = survey.id_range() or (0, 0)
        glance = Glance(files, survey.count_rows(), last_id)
        fitting = grid or Grid.fitting(batch_size, survey.count_ranges)
        return glance, [partition.key for partition in survey.with_rows(fitting)]
