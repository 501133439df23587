"""How the user's files are named, and how a fault of the system with them is told."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tautulli_pipeline.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM})


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
    hint = "check the path of the Tautulli database, and the disk it is on"
    if error.errno in _NO_RIGHT:
        hint = "give this user read access to the database, its folder and its -wal"
    return refused(path, cause(error), hint)


def refused(path: Path, reason: str, hint: str = "") -> SourceError:
    """The fault of a file that cannot be read as the database it should be."""
    return SourceError(f"cannot read {shown(path)}: {reason}", hint=hint)


def cause(error: OSError) -> str:
    """What the system says, as a part of a sentence."""
    return (error.strerror or str(error)).lower()


def shown(path: Path) -> str:
    """Quoted and escaped: a path may hold line breaks."""
    return repr(str(path))


def spelled_out(path: Path) -> Path:
    """The path as text that every format takes: a name is bytes, of any encoding."""
    return Path(os.fsencode(path).decode(errors="backslashreplace"))
