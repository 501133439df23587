"""The files and folders of a data directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class _Below:
    """A path below the data directory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, data_dir: DataDir, _owner: type[DataDir]) -> Path:
        return data_dir.path / self.name


class _BelowServer(_Below):
    """A path of one server: in a folder of its own if the configuration file lists the servers."""

    def __get__(self, data_dir: DataDir, _owner: type[DataDir]) -> Path:
        return data_dir.folder_of(data_dir.server) / self.name


# Names that are not constant, or that only DuckDB and Dagster use.
_OTHERS = (
    *("log", "schedules", "storage", ".telemetry", "*.json.*new", "pipeline.last.toml.*new"),
    *("import.*.stop", "import.claim.*new", "playback.duckdb.*", "demo-*.db*"),
    *("analytics.duckdb.*", "report*.html*"),
)


@dataclass(frozen=True)
class DataDir:
    """The paths of a data directory; `docs/architecture.md` says who writes and deletes them."""

    path: Path
    server: str = ""

    # The DuckDB file, unless DUCKDB_PATH names another one.
    warehouse = _Below("playback.duckdb")

    # The tables that people open, and what they were built from.
    analytics = _Below("analytics.duckdb")
    analytics_inputs = _Below("analytics.json")
    analytics_summary = _Below("summary.json")

    # The page of tables and charts, and tables as files.
    report = _Below("report.html")
    exports = _Below("export")

    # The configuration file, and a copy of the last one that was usable.
    configuration = _Below("pipeline.toml")
    last_configuration = _Below("pipeline.last.toml")

    # What is kept for each server of the configuration file.
    server_folders = _Below("servers")

    # The record of the last import, the lock and the name of the process that imports now.
    import_record = _BelowServer("import.json")
    import_lock = _Below("import.lock")
    import_claim = _Below("import.claim")

    # The id of the warehouse, and the file that has it.
    known_warehouse = _Below("warehouse.json")

    # What the last survey of the source found, and private copies while they are in use.
    survey = _BelowServer("survey.json")
    snapshots = _Below("snapshots")

    # What the last import looked at, so that a repeated one need not look again.
    repeats = _Below("repeats.json")

    # Receipts of published partitions, by import, until the import is settled.
    receipts = _Below("receipts")

    # The first is held by the one process that consumes, the second by those that wait for it.
    consumer_lock = _Below("consumer.lock")
    consumer_queue = _Below("consumer.queue")

    # Storage of the embedded stream server.
    stream = _Below("nats")

    # Dagster's storage, which exists once an instance was opened, and its configuration.
    run_history = _Below("history")
    dagster_lock = _Below("dagster.lock")
    dagster_config = _Below("dagster.yaml")

    # The one `up`: its lock, and its address and the mark of its child processes.
    up_lock = _Below("up.lock")
    up_state = _Below("up.json")

    @property
    def history_index(self) -> Path:
        """The database in which Dagster records every partition."""
        return self.run_history / "runs" / "index.db"

    def folder_of(self, server: str) -> Path:
        """The folder of a server of the configuration file; without one, the data directory."""
        return self.server_folders / server if server else self.path

    def make_folder(self) -> None:
        """Create the folder of the server."""
        self.folder_of(self.server).mkdir(mode=0o700, parents=True, exist_ok=True)

    def import_records(self) -> Iterator[Path]:
        """Yield the existing import records, of all servers."""
        for pattern in ("import.json", "servers/*/import.json"):
            yield from self.path.glob(pattern)

    def stop_request(self, attempt: str) -> Path:
        """The file that asks this import attempt to stop."""
        return self.path / f"import.{attempt}.stop"

    def log(self, name: str) -> Path:
        """The log file of one kind of process."""
        return self.path / "log" / f"{name}.log"

    def entries(self) -> Iterator[Path]:
        """Yield the existing files and folders of the pipeline, in no particular order."""
        named = [path.name for path in vars(DataDir).values() if isinstance(path, _Below)]
        for pattern in (*named, *_OTHERS):
            yield from self.path.glob(pattern)
