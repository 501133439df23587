"""Import progress: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tautulli_pipeline.cli.lines import wrap_for
from tautulli_pipeline.imports.record import ImportRecord

_LINE_EVERY_SECONDS: Final = 5.0


class Pace:
    """A timer for progress lines. The first line is due after one interval."""

    def __init__(self, every_seconds: float = _LINE_EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._next_at = time.monotonic() + every_seconds

    def is_due(self) -> bool:
        """Whether a line is due. If so, schedule the next one."""
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self._every_seconds
        return True


@contextmanager
def open_progress(stream: TextIO, pace: Pace | None = None) -> Iterator[_Bar | _Lines]:
    """Open a progress bar or progress lines, depending on `stream`."""
    tolerant = cast("TextIO", _Tolerant(stream))
    if not stream.isatty():
        yield _Lines(tolerant, pace or Pace())
        return
    bar = Progress(
        TaskProgressColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        console=Console(file=tolerant),
        transient=True,
    )
    with bar:
        yield _Bar(bar, tolerant)


class _Tolerant(io.TextIOBase):
    """A stream that ignores write errors: closing the terminal does not end the import."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


class _Bar:
    def __init__(self, bar: Progress, stream: TextIO) -> None:
        self._bar = bar
        self._stream = stream
        self._task = bar.add_task("import", total=None, figures="reading the database")

    def show(self, record: ImportRecord) -> None:
        if record.total_records:
            self._bar.update(
                self._task,
                total=record.total_records,
                completed=record.outcomes.processed,
                figures=_figures(record),
            )

    def say(self, text: str) -> None:
        wrapped = wrap_for(self._stream, text)
        self._bar.console.print(wrapped, soft_wrap=True, highlight=False, markup=False, emoji=False)


class _Lines:
    def __init__(self, stream: TextIO, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    def show(self, record: ImportRecord) -> None:
        if record.total_records and self._pace.is_due():
            percent = record.summary()["progress"]
            self.say(f"{percent} %  {_figures(record)}")

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def _figures(record: ImportRecord) -> str:
    summary = record.summary()
    return (
        f"{summary['records_per_second']:,.0f} plays/s  ETA {time_left(summary)}  "
        f"{record.outcomes.duplicates:,} duplicates  {record.outcomes.rejected:,} rejected"
    )


def time_left(summary: Mapping[str, Any]) -> str:
    """Return the remaining time as minutes and seconds, or dashes if the rate is unknown."""
    if not summary["records_per_second"]:
        return "-:--"
    minutes, seconds = divmod(round(summary["estimated_remaining_seconds"]), 60)
    return f"{minutes}:{seconds:02d}"
