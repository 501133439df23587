"""Who imports: the lock that keeps imports apart, and how a request to stop finds its holder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from filelock import FileLock
from pydantic import TypeAdapter

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.data_dir.locks import is_free
from tautulli_pipeline.source.faults import spelled_out

# Whoever asks for the status of an import holds its lock for a moment.
_PROBE_SECONDS: Final = 0.3
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Claim:
    """One attempt at an import, for as long as it holds the lock.

    Attributes:
        attempt: names it and the requests to stop it, so that a stale request stops
            nothing that begins later.
        source: the path as it was given; '' for who only keeps imports away.
    """

    attempt: str
    process_id: int
    source: str
    started_at: datetime


_CLAIM: Final = TypeAdapter(Claim)


class ImportLock:
    """The lock of a data directory's imports, with the claim of whoever holds it."""

    def __init__(self, data_dir: Path) -> None:
        self._paths = DataDir(data_dir)
        self._file = self._paths.import_claim
        self._record = self._paths.import_record
        self._lock = FileLock(self._paths.import_lock, mode=0o600)

    @contextmanager
    def hold(self, source: Path | None) -> Iterator[Claim]:
        """Be the one import of this data directory.

        Raises:
            filelock.Timeout: another process is.
            OSError: the data directory cannot be written.
        """
        self._lock.acquire(timeout=_PROBE_SECONDS)
        try:
            yield self._claim(source)
        finally:
            self._withdraw()
            if not self._record.exists():  # nothing came of it
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def is_held(self) -> bool:
        """Whether an import is at work, this process's or another's."""
        return not is_free(Path(self._lock.lock_file))

    def holder(self) -> Claim | None:
        """Who is at work; None for nobody."""
        deadline = time.monotonic() + _PROBE_SECONDS
        while self.is_held() and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                return _CLAIM.validate_json(self._file.read_bytes())
            time.sleep(_POLL_SECONDS)  # it has the lock and writes its claim
        return None

    def has_recorded(self) -> bool:
        """Whether the record is of the present holder."""
        try:
            return self._record.stat().st_mtime_ns >= self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return False

    def request_stop(self, claim: Claim) -> None:
        """Ask that attempt to stop after the current batch."""
        self._paths.stop_request(claim.attempt).touch(mode=0o600)

    def is_stop_requested(self, claim: Claim) -> bool:
        """Whether that attempt was asked to stop."""
        return self._paths.stop_request(claim.attempt).exists()

    def is_stopping(self) -> bool:
        """Whether the attempt that runs was asked to stop."""
        holder = self.holder()
        return holder is not None and self.is_stop_requested(holder)

    def _claim(self, source: Path | None) -> Claim:
        self._withdraw()
        named = str(spelled_out(source)) if source else ""
        claim = Claim(os.urandom(8).hex(), os.getpid(), named, datetime.now(UTC))
        write_atomically(self._file, orjson.dumps(asdict(claim)))
        return claim

    def _withdraw(self) -> None:
        for pattern in (f"{self._file.name}*", self._paths.stop_request("*").name):
            for file in self._paths.path.glob(pattern):
                file.unlink(missing_ok=True)
