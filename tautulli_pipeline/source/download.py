"""Downloads the database of a running Tautulli to a private copy."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from tautulli_pipeline.source.address import Tautulli
from tautulli_pipeline.source.faults import refused
from tautulli_pipeline.source.original import SQLITE_MAGIC
from tautulli_pipeline.source.private_folder import private_folder, remove_stale_snapshots
from tautulli_pipeline.source.snapshot import (
    COPY_NAME,
    OnCopied,
    Snapshot,
    copy_faults,
    free_bytes,
    settle,
)
from tautulli_pipeline.source.tautulli_api import Download, open_download


@contextmanager
def take_download(
    tautulli: Tautulli,
    snapshots_dir: Path,
    *,
    prepare: Callable[[Snapshot], None] = lambda _snapshot: None,
    on_copied: OnCopied = lambda _done, _total: None,
) -> Iterator[Snapshot]:
    """Download the database; the copy exists as long as the context.

    Args:
        tautulli: where it runs, with its key.
        snapshots_dir: the parent of the temporary folder for the copy.
        prepare: called with the copy before SQLite opens it.
        on_copied: receives the bytes that have arrived and in total.

    Raises:
        SourceError: Tautulli does not send a SQLite database.
        ConfigurationError: there is not enough space for the copy, or no write permission.
    """
    snapshots_dir = snapshots_dir.absolute()
    remove_stale_snapshots(snapshots_dir)
    with ExitStack() as stack:
        with open_download(tautulli) as download:
            size_bytes = download.size_bytes or 0
            with copy_faults(tautulli.address, snapshots_dir, size_bytes):
                if free_bytes(snapshots_dir) < size_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                folder = stack.enter_context(private_folder(snapshots_dir))
                with (folder / COPY_NAME).open("xb") as copy:
                    digest = _write(tautulli, download, copy, on_copied)
                    arrived_bytes = copy.tell()
        snapshot = Snapshot(folder / COPY_NAME, tautulli.address, arrived_bytes, digest)
        with copy_faults(tautulli.address, snapshots_dir, arrived_bytes):
            prepare(snapshot)
            settle(snapshot)
        yield snapshot


def _write(tautulli: Tautulli, download: Download, copy: BinaryIO, on_copied: OnCopied) -> str:
    """Write what arrives and return its digest; refuse anything but a database at once."""
    digest = hashlib.sha256()
    beginning = b""
    for chunk in download.chunks:
        if len(beginning) < len(SQLITE_MAGIC):
            beginning += chunk[: len(SQLITE_MAGIC)]
            _require_database(tautulli, beginning)
        copy.write(chunk)
        digest.update(chunk)
        on_copied(copy.tell(), download.size_bytes or copy.tell())
    if len(beginning) < len(SQLITE_MAGIC):
        raise refused(tautulli.address, "the database that it sends is empty")
    return digest.hexdigest()


def _require_database(tautulli: Tautulli, beginning: bytes) -> None:
    if SQLITE_MAGIC.startswith(beginning[: len(SQLITE_MAGIC)]):
        return
    what = "a web page" if beginning.lstrip().startswith(b"<") else "something else"
    raise refused(
        tautulli.address,
        f"it sends {what} in place of its database",
        "check the address, and whether a proxy in between asks people to log in",
    )
