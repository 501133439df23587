"""How a fault of the operating system with the user's files is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tautulli_pipeline.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def read_faults(path: Path) -> Iterator[None]:
    """Name `path` in what the system says; a file that is missing passes as it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> SourceError:
    """The fault of a file that the system does not let us read."""
    return SourceError(
        f"cannot read {shown(path)}: {cause(error)}",
        hint="give this user read access to the database, its folder and its -wal",
    )


def cause(error: OSError) -> str:
    """What the system says, as a part of a sentence."""
    return (error.strerror or str(error)).lower()


def shown(path: Path) -> str:
    """Quoted and escaped: a path may hold line breaks."""
    return repr(str(path))
