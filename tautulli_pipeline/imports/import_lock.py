"""The lock that allows one import at a time, and the stop requests to its holder."""

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
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.faults import spelled_out

# A status query holds the lock for a moment.
_PROBE_SECONDS: Final = 0.3
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Claim:
    """One attempt at an import, for as long as it holds the lock.

    Attributes:
        attempt: identifies the attempt and the requests to stop it, so that a stale request
            does not stop a later attempt.
        source: the path or address as given; '' for a holder that only blocks imports.
        server: the server of the configuration file; '' if it lists none.
    """

    attempt: str
    process_id: int
    source: str
    started_at: datetime
    server: str = ""


_CLAIM: Final = TypeAdapter(Claim)


class ImportLock:
    """The import lock of a data directory, with the claim of its holder.

    One process may hold the same object several times, one inside the other.
    """

    def __init__(self, data_dir: Path) -> None:
        self._paths = DataDir(data_dir)
        self._file = self._paths.import_claim
        self._lock = FileLock(self._paths.import_lock, mode=0o600)
        self._depth = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Hold the lock for several imports in turn; each of them holds it as well.

        Raises:
            filelock.Timeout: another process holds it.
            OSError: the data directory is not writable.
        """
        self._lock.acquire(timeout=_PROBE_SECONDS)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            # The last one to leave, and no import was recorded.
            if not self._depth and not any(self._paths.import_records()):
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    @contextmanager
    def hold(self, source: Named | None, server: str = "") -> Iterator[Claim]:
        """Hold the lock as the only import of this data directory.

        Args:
            source: what it imports; None for a holder that only blocks imports.
            server: the server of the configuration file whose import it is.

        Raises:
            filelock.Timeout: another process holds it.
            OSError: the data directory is not writable.
        """
        with self.kept():
            self._withdraw()
            named = str(spelled_out(source)) if source else ""
            claim = Claim(os.urandom(8).hex(), os.getpid(), named, datetime.now(UTC), server)
            try:
                write_atomically(self._file, orjson.dumps(asdict(claim)))
                yield claim
            finally:
                self._withdraw()

    def is_held(self) -> bool:
        """Whether an import is running, in this or another process."""
        return not is_free(Path(self._lock.lock_file))

    def holder(self) -> Claim | None:
        """Return the claim of the holder; None if the lock is free."""
        deadline = time.monotonic() + _PROBE_SECONDS
        while self.is_held() and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                return _CLAIM.validate_json(self._file.read_bytes())
            time.sleep(_POLL_SECONDS)  # the holder is still writing its claim
        return None

    def has_recorded(self) -> bool:
        """Whether the record belongs to the current holder."""
        holder = self.holder()
        record = DataDir(self._paths.path, holder.server if holder else "").import_record
        try:
            return record.stat().st_mtime_ns >= self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return False

    def request_stop(self, claim: Claim, *, only_its_server: bool = False) -> None:
        """Ask that attempt to stop after its current batch.

        Args:
            claim: the attempt.
            only_its_server: let its process go on with the next server.
        """
        request = self._paths.stop_request(claim.attempt)
        request.touch(mode=0o600)
        if only_its_server:
            request.write_text(claim.server, encoding="utf-8")

    def is_stop_for_one(self, claim: Claim) -> bool:
        """Whether only that attempt was asked to stop, not the imports after it."""
        try:
            return self._paths.stop_request(claim.attempt).stat().st_size > 0
        except FileNotFoundError:
            return False

    def is_stop_requested(self, claim: Claim) -> bool:
        """Whether that attempt was asked to stop."""
        return self._paths.stop_request(claim.attempt).exists()

    def is_stopping(self) -> bool:
        """Whether the running attempt was asked to stop."""
        holder = self.holder()
        return holder is not None and self.is_stop_requested(holder)

    def _withdraw(self) -> None:
        for pattern in (f"{self._file.name}*", self._paths.stop_request("*").name):
            for file in self._paths.path.glob(pattern):
                file.unlink(missing_ok=True)
