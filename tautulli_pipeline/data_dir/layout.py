"""The layout of a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDir:
    """The paths in a data directory that more than one module uses."""

    path: Path

    @property
    def snapshots(self) -> Path:
        """Private copies of sources, each in a separate folder while it is in use."""
        return self.path / "snapshots"

    @property
    def receipts(self) -> Path:
        """The publisher's receipts for each row, by import, until the import is settled."""
        return self.path / "receipts"

    @property
    def survey(self) -> Path:
        """The result of the last source survey."""
        return self.path / "survey.json"

    @property
    def run_history(self) -> Path:
        """Dagster's storage; created when an instance is first opened."""
        return self.path / "history"

    @property
    def stream(self) -> Path:
        """The storage of the embedded stream server."""
        return self.path / "nats"

    @property
    def consumer_lock(self) -> Path:
        """The lock file held by the one consumer process."""
        return self.path / "consumer.lock"

    @property
    def consumer_queue(self) -> Path:
        """The lock file held by processes that wait to consume."""
        return self.path / "consumer.queue"
