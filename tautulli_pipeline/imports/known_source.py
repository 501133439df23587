"""What a source held when it was last surveyed, good for as long as its files stay as they are.

A copy of a large database and a look at each of its rows take many times longer than
seeing by the files' times, sizes and headers that nothing was written.
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
from tautulli_pipeline.imports.newness import fingerprint
from tautulli_pipeline.source.faults import spelled_out
from tautulli_pipeline.source.opening import KnownContents, OpenSource, open_source
from tautulli_pipeline.source.original import locate, observe
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.survey import PartitionContent

# Another version may see more in the same bytes.
_VERSION: Final = version("tautulli-pipeline")
# Version and state of the files, and what was found in them.
_MEMORY: Final = TypeAdapter(tuple[str, str, KnownContents])


def open_known_source(
    path: Path, snapshots_dir: Path, memory: Path, *, salvaging: bool = False
) -> AbstractContextManager[OpenSource]:
    """Open the source for an import; where it is unchanged, without a copy until one is needed.

    Args:
        path: the database.
        snapshots_dir: where the private copy is made for the time being.
        memory: the file that remembers the last survey.
        salvaging: make do with what can be read of a damaged file.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    original, looked_at_ns = locate(path), time.time_ns()
    files = observe(original)
    name = files.name_at(original)

    def keep(grid: Grid, contents: Sequence[PartitionContent]) -> None:
        if files.settled_at(looked_at_ns) and fingerprint(path) == name:
            known = KnownContents(spelled_out(original), grid, tuple(contents))
            write_atomically(memory, _MEMORY.dump_json((_VERSION, name, known)))

    known = None if salvaging else _recall(memory, name)
    return open_source(path, snapshots_dir, salvaging=salvaging, known=known, on_survey=keep)


def _recall(memory: Path, name: str) -> KnownContents | None:
    """What is remembered of exactly these files; nothing where it cannot be read."""
    with suppress(OSError, ValidationError):
        *kept, known = _MEMORY.validate_json(memory.read_bytes())
        if kept == [_VERSION, name]:
            return known
    return None
