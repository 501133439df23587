"""A source that is open to read: its private copy, its schema and what a survey finds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.source.damage import damaged, in_words
from tautulli_pipeline.source.header import accept_length, require_whole
from tautulli_pipeline.source.partitions import Grid, Partition
from tautulli_pipeline.source.salvage import NOTHING_LOST, Salvage, salvage
from tautulli_pipeline.source.schema import SourceSchema, read_schema
from tautulli_pipeline.source.snapshot import Snapshot, take_snapshot
from tautulli_pipeline.source.survey import PartitionContent, Survey, open_survey, with_unreadable


@dataclass(frozen=True)
class SourceFacts:
    """What a database file is and holds.

    Attributes:
        tables: the columns of the three history tables.
        ids: first and last id; None where there are no plays.
        started: first and last start in Unix seconds.
        users: how many have plays.
        unreadable: what cannot be read of it, in words.
    """

    path: Path
    size_bytes: int
    fingerprint: str
    tautulli_version: str | None
    tables: Mapping[str, tuple[str, ...]]
    rows: int
    ids: tuple[int, int] | None
    started: tuple[int, int] | None
    users: int
    partitions: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class KnownContents:
    """What a source holds that was surveyed before and is unchanged since.

    Attributes:
        source: its path, as `Snapshot` has it.
        contents: its partitions with rows, on `grid`.
    """

    source: Path
    grid: Grid
    contents: tuple[PartitionContent, ...]


@dataclass(frozen=True)
class Copied:
    """A private copy that is a Tautulli database.

    Attributes:
        salvage: what the copy lacks of a damaged file.
    """

    snapshot: Snapshot
    schema: SourceSchema
    salvage: Salvage = NOTHING_LOST


OnSurvey = Callable[[Grid, Sequence[PartitionContent]], None]


@dataclass
class OpenSource:
    """A source to read; of one that is known, a copy is made when it is first needed.

    Args:
        copy: makes the private copy.
        known: what is known of it.
        on_survey: hears what a survey of the whole, undamaged source found.
    """

    _copy: Callable[[], Copied]
    _known: KnownContents | None = None
    _on_survey: OnSurvey = lambda _grid, _contents: None

    def __post_init__(self) -> None:
        if self._known is None:
            self.copied  # noqa: B018 - what is no database shows here

    @cached_property
    def copied(self) -> Copied:
        """The private copy with what was found out on making it."""
        return self._copy()

    @property
    def snapshot(self) -> Snapshot:
        """The private copy."""
        return self.copied.snapshot

    @property
    def schema(self) -> SourceSchema:
        """Its tables."""
        return self.copied.schema

    @property
    def salvage(self) -> Salvage:
        """What the copy lacks of a damaged file; one that is known lacks nothing."""
        return NOTHING_LOST if self._known else self.copied.salvage

    @property
    def path(self) -> Path:
        """The original, with links resolved and bytes that are no UTF-8 spelled out."""
        return self._known.source if self._known else self.snapshot.source

    def survey(self, grid: Grid | None, batch_size: int) -> list[PartitionContent]:
        """Its partitions with rows, readable or not, on `grid` or, without one, on one that fits.

        Raises:
            SourceDamagedError: some of it cannot be read.
        """
        if self._known and self._known.grid == grid:
            return list(self._known.contents)
        lost = self.salvage.unreadable
        with self.naming_damage(), self.open_survey() as survey:

            def count_ranges(width: int) -> int:
                return max(
                    survey.count_ranges(width), len(set(map(Grid(width).partition_of, lost)))
                )

            fitting = grid or Grid.fitting(batch_size, count_ranges)
            contents = with_unreadable(survey.partitions(fitting), lost, fitting)
        if not self.salvage.damages:
            self._on_survey(fitting, contents)
        return contents

    def describe(self, contents: Collection[PartitionContent]) -> SourceFacts:
        """What the file is and holds; `contents` are its partitions."""
        starts = [moment for content in contents for moment in content.started or ()]
        with self.open_survey() as survey:
            users, ids = survey.count_users(), survey.id_range()
        return SourceFacts(
            path=self.snapshot.source,
            size_bytes=self.snapshot.size_bytes,
            fingerprint=self.snapshot.fingerprint,
            tautulli_version=self.schema.tautulli_version,
            tables=self.schema.history_columns,
            rows=sum(content.rows for content in contents),
            ids=ids,
            started=(min(starts), max(starts)) if starts else None,
            users=users,
            partitions=len(contents),
            unreadable=tuple(in_words(damage.facts()) for damage in self.salvage.damages),
        )

    def plays_by_month(self, partitions: Iterable[Partition]) -> list[tuple[str, int]]:
        """Plays of partitions by month of their start."""
        with self.open_survey() as survey:
            return survey.plays_by_month(
                ids for partition in partitions for ids in partition.ranges
            )

    def open_survey(self) -> AbstractContextManager[Survey]:
        """Counts and digests of the copy."""
        return open_survey(self.snapshot.path, self.schema, named=self.snapshot.source)

    @contextmanager
    def naming_damage(self) -> Iterator[None]:
        """Where a damaged page is met, look for all of them and name what they cost.

        Raises:
            SourceDamagedError: in place of the one that tells of the first.
        """
        try:
            yield
        except SourceDamagedError as error:
            named = self.snapshot.source
            scratch = self.snapshot.path.with_name("examined.db")
            try:
                found = salvage(self.snapshot.path, self.schema, scratch, named=named)
            finally:
                scratch.unlink(missing_ok=True)
            if found.damages:
                raise damaged(named, found.damages) from error
            raise

    def fits(self, grid: Grid, batch_size: int) -> bool:
        """Whether batches of that size go with `grid`."""

        def count_ranges(width: int) -> int:
            with self.open_survey() as survey:
                return survey.count_ranges(width)

        return grid.fits(batch_size, count_ranges)


@contextmanager
def open_source(
    path: Path,
    snapshots_dir: Path,
    *,
    salvaging: bool = False,
    known: KnownContents | None = None,
    on_survey: OnSurvey = lambda _grid, _contents: None,
) -> Iterator[OpenSource]:
    """Copy the database at `path` and read its schema.

    Args:
        path: the database.
        snapshots_dir: where the private copy is made for the time being.
        salvaging: make do with what can be read of a damaged file.
        known: see `OpenSource`.
        on_survey: likewise.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    prepare = accept_length if salvaging else require_whole
    with ExitStack() as stack:

        def copy() -> Copied:
            snapshot = stack.enter_context(take_snapshot(path, snapshots_dir, prepare=prepare))
            schema = read_schema(snapshot.path, named=snapshot.source)
            if not salvaging:
                return Copied(snapshot, schema)
            # What can be read takes the place of the copied file.
            sound_copy = snapshot.path.with_name("salvaged.db")
            found = salvage(snapshot.path, schema, sound_copy, named=snapshot.source)
            snapshot.path.unlink()
            return Copied(replace(snapshot, path=sound_copy), schema, found)

        yield OpenSource(copy, known, on_survey)
