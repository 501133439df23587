"""Runs all measurements one after the other, and writes the results after each."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import worker
from benchmarks.databases import append_rows
from benchmarks.dlt_peer import install, run_dlt
from benchmarks.machine import machine_facts, versions
from benchmarks.measurements import Measurements, Recording, Run, RunKind, StageProfile
from benchmarks.pipeline import run_import
from benchmarks.report import render
from tautulli_pipeline.demo.database import make_demo_database

_PROFILED_ROWS: Final = 20_000


@dataclass(frozen=True)
class Extent:
    """The sizes to measure; None skips a peer."""

    sizes: tuple[int, ...]
    adr_rows: int | None
    dlt_rows: int | None

    @property
    def all_sizes(self) -> list[int]:
        """All sizes to import, including those of the peers for comparison."""
        peers = {rows for rows in (self.adr_rows, self.dlt_rows) if rows is not None}
        return sorted({*self.sizes, *peers})


@dataclass
class Suite:
    """Runs the measurements in `folder` and keeps the file `results` up to date."""

    extent: Extent
    folder: Path
    results: Path
    measured: Measurements = field(default_factory=Measurements)

    def run(self) -> None:
        """Run all measurements."""
        dlt = install(self.folder / "peers") if self.extent.dlt_rows is not None else None
        self._profile()
        for rows in self.extent.all_sizes:
            scratch = self.folder / f"{rows}"
            scratch.mkdir()
            self._measure(rows, scratch, dlt)
            shutil.rmtree(scratch)

    def _measure(self, rows: int, scratch: Path, dlt: Path | None) -> None:
        database, data_dir = scratch / "tautulli.db", scratch / "data"
        _say(f"generating {rows:,} plays")
        make_demo_database(database, rows)
        self._direct_copy(database, scratch / "direct", rows)
        self._note(run_import(RunKind.FIRST, database, data_dir, rows))
        self._record(database, scratch / "recording", rows)
        self._note(run_import(RunKind.FRESH, database, data_dir, rows, "--fresh"))
        self._note(run_import(RunKind.NOTHING_NEW, database, data_dir, rows))
        if rows == self.extent.adr_rows:
            self._adr(database, scratch / "adr", rows)
        if dlt is not None and rows == self.extent.dlt_rows:
            run, self.measured.dlt_version = run_dlt(dlt, database, scratch / "dlt", rows)
            self._note(run)
        if rows == max(self.extent.sizes):
            append_rows(database)
            self._note(run_import(RunKind.APPENDED, database, data_dir, rows))

    def _direct_copy(self, database: Path, folder: Path, rows: int) -> None:
        found, run = worker.measure(worker.DIRECT_COPY, database, folder)
        uses = {"DuckDB": run.processes["publisher"]}
        self._note(Run(RunKind.DIRECT, rows, found["seconds"], uses))
        shutil.rmtree(folder)

    def _adr(self, database: Path, folder: Path, rows: int) -> None:
        found, run = worker.measure(worker.ADR, database, folder)
        if found["stored"] != rows:
            raise RuntimeError(f"the ADR's algorithm stored {found['stored']} of {rows} rows")
        self._note(Run(RunKind.ADR, rows, found["seconds"], run.processes, f"{rows:,} imported"))
        shutil.rmtree(folder)

    def _record(self, database: Path, folder: Path, rows: int) -> None:
        found, _ = worker.measure(worker.RECORDING, database, folder)
        self.measured.recordings.append(Recording(rows, found["partitions"], found["seconds"]))
        self._write()
        shutil.rmtree(folder)

    def _profile(self) -> None:
        database = self.folder / "profiled.db"
        rows = min(_PROFILED_ROWS, max(self.extent.sizes))
        make_demo_database(database, rows)
        found, _ = worker.measure(worker.STAGES, database, self.folder / "profile")
        self.measured.profile = StageProfile(found["rows"], found["cpu_seconds"])
        self._write()
        shutil.rmtree(self.folder / "profile")

    def _note(self, run: Run) -> None:
        self.measured.runs.append(run)
        _say(f"{run.rows:,} rows, {run.kind}: {run.seconds:.1f} s")
        self._write()

    def _write(self) -> None:
        self.results.parent.mkdir(parents=True, exist_ok=True)
        self.results.write_text(render(self.measured, machine_facts(), versions()))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
