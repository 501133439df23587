"""A cache of the last survey of a source, valid until the files of the source change.

Copying a large database and reading every row takes many times longer than checking the
times, sizes and headers of its files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.fingerprints import (
    SURVEY_VERSION,
    fingerprint,
    named_by,
    oldest_download,
)
from tautulli_pipeline.source.address import Source, Tautulli, name_of
from tautulli_pipeline.source.faults import spelled_out
from tautulli_pipeline.source.opening import KnownContents, OpenSource, open_source
from tautulli_pipeline.source.original import locate, observe
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.snapshot import OnCopied
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.source.tautulli_api import look

# The version, the state of the files, when a Tautulli was asked, in Unix time, and the contents.
_CACHED: Final = TypeAdapter(tuple[str, str, float | None, KnownContents])


def open_with_survey_cache(
    path: Source,
    layout: DataDir,
    *,
    salvaging: bool = False,
    fresh: bool = False,
    max_age_hours: float = 0,
    on_copied: OnCopied = lambda _done, _total: None,
) -> AbstractContextManager[OpenSource]:
    """Open the source for an import; copy an unchanged source only when its rows are needed.

    Args:
        path: the database, or a running Tautulli.
        layout: the data directory, for the cache and the temporary private copy.
        salvaging: import what is readable in a damaged file.
        fresh: download the database of a Tautulli in any case.
        max_age_hours: how long to rely on an earlier download if there are no new plays; edits
            of older plays do not show.
        on_copied: receives the bytes that are copied and in total.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    original, looked_at_ns = locate(path) if isinstance(path, Path) else path, time.time_ns()
    asked_at: float | None = None
    if isinstance(original, Tautulli):
        asked_at = looked_at_ns / 1e9
        name = named_by(original, look(original))
        is_kept = not (salvaging or fresh)
        oldest = oldest_download(max_age_hours, asked_at)
    else:
        files = observe(original)
        name, is_kept, oldest = files.name_at(original), not salvaging, None

    def keep(grid: Grid, contents: Sequence[PartitionContent], names: str) -> None:
        if asked_at is None and not (files.settled_at(looked_at_ns) and fingerprint(path) == name):
            return
        layout.make_folder()
        known = KnownContents(spelled_out(name_of(original)), grid, tuple(contents), names)
        write_atomically(layout.survey, _CACHED.dump_json((SURVEY_VERSION, name, asked_at, known)))

    return open_source(
        path,
        layout.snapshots,
        salvaging=salvaging,
        known=_recall(layout.survey, name, oldest) if is_kept else None,
        on_survey=keep,
        on_copied=on_copied,
    )


def downloaded_at(layout: DataDir) -> datetime | None:
    """Return when the database of a Tautulli was last downloaded, in UTC; None for a file."""
    with suppress(OSError, ValidationError):
        *_, asked_at, _known = _CACHED.validate_json(layout.survey.read_bytes())
        return datetime.fromtimestamp(asked_at, UTC) if asked_at is not None else None
    return None


def _recall(cache: Path, name: str, oldest: float | None) -> KnownContents | None:
    """Return the cached contents of exactly these files; None if the cache is unreadable."""
    with suppress(OSError, ValidationError):
        *kept, asked_at, known = _CACHED.validate_json(cache.read_bytes())
        if kept == [SURVEY_VERSION, name] and (oldest is None or (asked_at or 0) > oldest):
            return known
    return None
