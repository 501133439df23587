"""Log files of a data directory, one for each kind of process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, cast

from tautulli_pipeline.data_dir.locks import open_private
from tautulli_pipeline.printable import lines_without_controls

LOGGER: Final = logging.getLogger("tautulli_pipeline")
_MAX_BYTES: Final = 1_000_000
_OLD_FILES: Final = 3


class _Formatter(logging.Formatter):
    """Escapes what a terminal could obey: messages hold names from databases and files."""

    def format(self, record: logging.LogRecord) -> str:
        return lines_without_controls(super().format(record))


_FORMATTER: Final = _Formatter(
    "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"
)
_FORMATTER.converter = time.gmtime


class _PrivateFile(RotatingFileHandler):
    """A file that only its owner can read, made with its folder for the first record."""

    def _open(self) -> TextIOWrapper:
        file = Path(self.baseFilename)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        return cast("TextIOWrapper", open_private(file))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Ignore a full disk: work that depends on it reports it."""


@contextmanager
def log_to(file: Path) -> Iterator[None]:
    """Write the package's log records to `file` while the context is open.

    Only one process may write a file at a time: enter this while holding the lock of the work.
    """
    handler = _PrivateFile(file, maxBytes=_MAX_BYTES, backupCount=_OLD_FILES, delay=True)
    with closing(handler), _handled_by(handler, logging.INFO):
        yield


@contextmanager
def log_to_stderr(*, enabled: bool) -> Iterator[None]:
    """Show every log record of the package on standard error while the context is open."""
    with _handled_by(logging.StreamHandler(), logging.DEBUG) if enabled else nullcontext():
        yield


@contextmanager
def _handled_by(handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setFormatter(_FORMATTER)
    handler.setLevel(level)
    before = LOGGER.level
    LOGGER.setLevel(min(before or level, level))
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
