"""An open source: its private copy, its schema and the results of its survey."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.source.address import Address, Named, Source, Tautulli
from tautulli_pipeline.source.damage import damaged
from tautulli_pipeline.source.download import take_download
from tautulli_pipeline.source.header import accept_length, require_whole
from tautulli_pipeline.source.names import SourceNames, read_names
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import HistoryReader, open_reader
from tautulli_pipeline.source.salvage import NOTHING_LOST, Salvage, salvage
from tautulli_pipeline.source.schema import SourceSchema, read_schema, require_tables
from tautulli_pipeline.source.snapshot import OnCopied, Snapshot, take_snapshot
from tautulli_pipeline.source.survey import PartitionContent, Survey, open_survey, with_unreadable
from tautulli_pipeline.source.tidying import forget_secrets, index_ids, number_rows


@dataclass(frozen=True)
class KnownContents:
    """The partitions of `grid` that have rows, if the source is the same as at its last survey.

    Attributes:
        names: the digest of the names of users and libraries.
    """

    source: Named
    grid: Grid
    contents: tuple[PartitionContent, ...]
    names: str


@dataclass(frozen=True)
class Copied:
    """A private copy of a Tautulli database, and the rows that it lacks if the file is damaged."""

    snapshot: Snapshot
    schema: SourceSchema
    salvage: Salvage = NOTHING_LOST


OnSurvey = Callable[[Grid, Sequence[PartitionContent], str], None]


@dataclass
class OpenSource:
    """An open source. If its contents are known from an earlier survey, it is copied on first use.

    `_on_survey` is called with the result of each survey of an undamaged source and the digest
    of its names.
    """

    _copy: Callable[[], Copied]
    _known: KnownContents | None = None
    _on_survey: OnSurvey = lambda _grid, _contents, _names: None

    def __post_init__(self) -> None:
        if self._known is None:
            self.copied  # noqa: B018 - raises if the file is not a database

    @cached_property
    def copied(self) -> Copied:
        """The private copy, its schema and its damage."""
        return self._copy()

    @property
    def snapshot(self) -> Snapshot:
        """The private copy."""
        return self.copied.snapshot

    @property
    def schema(self) -> SourceSchema:
        """The tables of the source."""
        return self.copied.schema

    @property
    def salvage(self) -> Salvage:
        """The rows missing from a damaged file; none if the contents are known."""
        return NOTHING_LOST if self._known else self.copied.salvage

    @cached_property
    def names(self) -> SourceNames:
        """The names of users and libraries."""
        return read_names(self.snapshot.path, self.schema, named=self.snapshot.source)

    @property
    def names_digest(self) -> str:
        """Changes when a name changes."""
        return self._known.names if self._known else self.names.digest

    @property
    def path(self) -> Named:
        """The address, or the path with links resolved and bytes that are not UTF-8 escaped."""
        return self._known.source if self._known else self.snapshot.source

    @property
    def may_have_changed(self) -> bool:
        """Whether a copy made now may differ from the known contents, as of a Tautulli."""
        return self._known is not None and isinstance(self._known.source, Address)

    def look_again(self) -> None:
        """Copy the source now, and forget what is known of it."""
        self._known = None
        self.copied  # noqa: B018 - raises if it cannot be copied

    def survey(self, grid: Grid | None, batch_size: int) -> list[PartitionContent]:
        """Return the partitions that have rows, readable or not.

        Without a `grid`, choose one that fits batches of `batch_size` rows.

        Raises:
            SourceDamagedError: part of the source cannot be read.
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
            self._on_survey(fitting, contents, self.names_digest)
        return contents

    def open_survey(self) -> AbstractContextManager[Survey]:
        """Open the copy for counting rows and computing digests."""
        return open_survey(self.snapshot.path, self.schema, named=self.snapshot.source)

    @contextmanager
    def open_reader(self, schema: SourceSchema | None = None) -> Iterator[HistoryReader]:
        """Open the copy for reading plays: all of their columns, or those of `schema`."""
        with self.open_survey() as survey:
            survey.require_ends()
        named = self.snapshot.source
        with open_reader(self.snapshot.path, schema or self.schema, named=named) as reader:
            yield reader

    @contextmanager
    def naming_damage(self) -> Iterator[None]:
        """Replace the error for a damaged page by one that lists all damage of the file."""
        try:
            yield
        except SourceDamagedError as error:
            named = self.snapshot.source
            scratch = self.snapshot.path.with_name("examined.db")
            found = salvage(self.snapshot.path, self.schema, scratch, named=named)
            if found.damages:
                raise damaged(named, found.damages) from error
            raise

    def fits(self, grid: Grid, batch_size: int) -> bool:
        """Whether `grid` suits batches of `batch_size` rows."""

        def count_ranges(width: int) -> int:
            with self.open_survey() as survey:
                return survey.count_ranges(width)

        return grid.fits(batch_size, count_ranges)


@contextmanager
def open_source(
    path: Source,
    snapshots_dir: Path,
    *,
    salvaging: bool = False,
    known: KnownContents | None = None,
    on_survey: OnSurvey = lambda _grid, _contents, _names: None,
    on_copied: OnCopied = lambda _done, _total: None,
) -> Iterator[OpenSource]:
    """Copy the database at `path` to a temporary folder in `snapshots_dir` and read its schema.

    If `path` is a running Tautulli, its database is downloaded.

    With `salvaging`, accept a damaged file and read what is readable. `on_copied`
    receives the bytes that are copied and in total.

    Raises:
        SourceError: the file is not a readable Tautulli database.
    """
    prepare = accept_length if salvaging else require_whole
    with ExitStack() as stack:

        def copy() -> Copied:
            snapshot = stack.enter_context(
                take_download(path, snapshots_dir, prepare=prepare, on_copied=on_copied)
                if isinstance(path, Tautulli)
                else take_snapshot(path, snapshots_dir, prepare=prepare, on_copied=on_copied)
            )
            if not salvaging:  # writing to a damaged file could damage more of it
                forget_secrets(snapshot.path)
            require_tables(snapshot.path, named=snapshot.source)
            number_rows(snapshot.path, named=snapshot.source)
            schema = read_schema(snapshot.path, named=snapshot.source)
            if not salvaging:
                index_ids(snapshot.path, schema)
                return Copied(snapshot, schema)
            # The salvaged copy replaces the damaged one.
            sound_copy = snapshot.path.with_name("salvaged.db")
            found = salvage(snapshot.path, schema, sound_copy, named=snapshot.source)
            index_ids(sound_copy, schema)
            snapshot.path.unlink()
            return Copied(replace(snapshot, path=sound_copy), schema, found)

        yield OpenSource(copy, known, on_survey)
