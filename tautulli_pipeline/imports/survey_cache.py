"""A cache of the last survey of a source, valid until the files of the source change.

Copying a large database and reading every row takes many times longer than checking the
times, sizes and headers of its files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.source_watch import fingerprint
from tautulli_pipeline.source.faults import spelled_out
from tautulli_pipeline.source.opening import KnownContents, OpenSource, open_source
from tautulli_pipeline.source.original import locate, observe
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.snapshot import OnCopied
from tautulli_pipeline.source.survey import PartitionContent

# Another version may read the same bytes differently.
_VERSION: Final = version("tautulli-pipeline")
# The version, the state of the files, and their contents.
_CACHED: Final = TypeAdapter(tuple[str, str, KnownContents])


def open_with_survey_cache(
    path: Path,
    layout: DataDir,
    *,
    salvaging: bool = False,
    on_copied: OnCopied = lambda _done, _total: None,
) -> AbstractContextManager[OpenSource]:
    """Open the source for an import; copy an unchanged source only when its rows are needed.

    Args:
        path: the database.
        layout: the data directory, for the cache and the temporary private copy.
        salvaging: import what is readable in a damaged file.
        on_copied: receives the bytes that are copied and in total.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    original, looked_at_ns = locate(path), time.time_ns()
    files = observe(original)
    name = files.name_at(original)

    def keep(grid: Grid, contents: Sequence[PartitionContent]) -> None:
        if files.settled_at(looked_at_ns) and fingerprint(path) == name:
            known = KnownContents(spelled_out(original), grid, tuple(contents))
            write_atomically(layout.survey, _CACHED.dump_json((_VERSION, name, known)))

    known = None if salvaging else _recall(layout.survey, name)
    return open_source(
        path,
        layout.snapshots,
        salvaging=salvaging,
        known=known,
        on_survey=keep,
        on_copied=on_copied,
    )


def _recall(cache: Path, name: str) -> KnownContents | None:
    """Return the cached contents of exactly these files; None if the cache is unreadable."""
    with suppress(OSError, ValidationError):
        *kept, known = _CACHED.validate_json(cache.read_bytes())
        if kept == [_VERSION, name]:
            return known
    return None
