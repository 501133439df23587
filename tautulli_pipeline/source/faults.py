"""Error messages about the user's files and their paths."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.source.address import Address, Named

_PERMISSION_ERRORS = frozenset({errno.EACCES, errno.EPERM})


@contextmanager
def read_faults(path: Path) -> Iterator[None]:
    """Convert system errors to errors that name `path`; let FileNotFoundError through."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> SourceError:
    """Return the error for a file that the operating system cannot or will not read."""
    hint = "check the path of the Tautulli database and its disk"
    if error.errno in _PERMISSION_ERRORS:
        hint = "give this user read access to the database, its folder and its -wal file"
    return refused(path, cause(error), hint)


def refused(path: Named, reason: str, hint: str = "") -> SourceError:
    """Return the error for a file that cannot be read as a database."""
    return SourceError(f"cannot read {shown(path)}: {reason}", hint=hint)


def cause(error: OSError) -> str:
    """Return the system's error message, as part of a sentence."""
    return (error.strerror or str(error)).lower()


def shown(path: Named) -> str:
    """Return the path quoted and escaped: it may contain line breaks."""
    return repr(str(path))


def spelled_out(path: Named) -> Named:
    """Return the path as valid UTF-8: file names are bytes in any encoding."""
    if isinstance(path, Address):
        return path
    return Path(os.fsencode(path).decode(errors="backslashreplace"))
