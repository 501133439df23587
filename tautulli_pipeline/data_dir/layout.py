"""Where things are in a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDir:
    """Every path below a data directory that more than one module needs."""

    path: Path

    @property
    def snapshots(self) -> Path:
        """Private copies of sources, each in a folder of its own while it is in use."""
        return self.path / "snapshots"

    @property
    def receipts(self) -> Path:
        """What the publisher knows of each row, by import, until the import is settled."""
        return self.path / "receipts"

    @property
    def survey(self) -> Path:
        """What the last survey of the source found."""
        return self.path / "survey.json"

    @property
    def run_history(self) -> Path:
        """Dagster's storage; it is there once an instance was opened."""
        return self.path / "history"

    @property
    def stream(self) -> Path:
        """Storage of the embedded stream server."""
        return self.path / "nats"

    @property
    def consumer_lock(self) -> Path:
        """Held by the one process that consumes."""
        return self.path / "consumer.lock"

    @property
    def consumer_queue(self) -> Path:
        """Held by those who wait to consume."""
        return self.path / "consumer.queue"
