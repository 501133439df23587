"""Every file and folder of a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDir:
    """The paths of a data directory; `docs/architecture.md` says who writes and deletes them."""

    path: Path

    @property
    def warehouse(self) -> Path:
        """The DuckDB file, unless DUCKDB_PATH names another one."""
        return self.path / "playback.duckdb"

    @property
    def import_record(self) -> Path:
        """The record of the running or last import."""
        return self.path / "import.json"

    @property
    def import_lock(self) -> Path:
        """Held by the process that imports."""
        return self.path / "import.lock"

    @property
    def import_claim(self) -> Path:
        """Names the process that imports."""
        return self.path / "import.claim"

    def stop_request(self, attempt: str) -> Path:
        """Exists once somebody asked that attempt at an import to stop."""
        return self.path / f"import.{attempt}.stop"

    @property
    def survey(self) -> Path:
        """What the last survey of the source found."""
        return self.path / "survey.json"

    @property
    def snapshots(self) -> Path:
        """Private copies of sources, each in a folder of its own while it is in use."""
        return self.path / "snapshots"

    @property
    def receipts(self) -> Path:
        """Receipts of published partitions, by import, until the import is settled."""
        return self.path / "receipts"

    @property
    def consumer_lock(self) -> Path:
        """Held by the one process that consumes."""
        return self.path / "consumer.lock"

    @property
    def consumer_queue(self) -> Path:
        """Locked by processes that wait to consume."""
        return self.path / "consumer.queue"

    @property
    def stream(self) -> Path:
        """Storage of the embedded stream server."""
        return self.path / "nats"

    @property
    def run_history(self) -> Path:
        """Dagster's storage of runs and events; it exists once an instance was opened."""
        return self.path / "history"

    @property
    def dagster_lock(self) -> Path:
        """Held while Dagster's storage is opened."""
        return self.path / "dagster.lock"

    @property
    def dagster_config(self) -> Path:
        """The instance configuration of Dagster's own programs."""
        return self.path / "dagster.yaml"

    @property
    def up_lock(self) -> Path:
        """Held by the one `up`."""
        return self.path / "up.lock"

    @property
    def up_state(self) -> Path:
        """The address of `up` and its child processes."""
        return self.path / "up.json"

    def log(self, name: str) -> Path:
        """The log file of one kind of process."""
        return self.path / "log" / f"{name}.log"
