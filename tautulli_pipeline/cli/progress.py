"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tautulli_pipeline.imports.record import ImportRecord

_LINE_EVERY_SECONDS: Final = 5.0


class Pace:
    """Tells when the next progress line is due; the first one after a full interval."""

    def __init__(
        self,
        every_seconds: float = _LINE_EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_seconds = every_seconds
        self._clock = clock
        self._next_at = clock() + every_seconds

    def is_due(self) -> bool:
        """Whether a line is due; if so, the next one is due an interval later."""
        if self._clock() < self._next_at:
            return False
        self._next_at = self._clock() + self._every_seconds
        return True


@contextmanager
def open_progress(stream: TextIO, pace: Pace | None = None) -> Iterator[_Bar | _Lines]:
    """The view that suits `stream`."""
    lasting = cast("TextIO", _Lasting(stream))
    if not stream.isatty():
        yield _Lines(lasting, pace or Pace())
        return
    bar = Progress(
        TaskProgressColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        console=Console(file=lasting),
        transient=True,
    )
    with bar:
        yield _Bar(bar)


class _Lasting(io.TextIOBase):
    """A stream that nobody may read any more: an import does not end with its terminal's window."""

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
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("import", total=None, figures="reading the database")

    def show(self, record: ImportRecord) -> None:
        if record.total_records:
            self._bar.update(
                self._task,
                total=record.total_records,
                completed=record.outcomes.processed,
                figures=_figures(record),
            )

    def say(self, words: str) -> None:
        self._bar.console.print(words, soft_wrap=True, highlight=False, markup=False, emoji=False)


class _Lines:
    def __init__(self, stream: TextIO, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    def show(self, record: ImportRecord) -> None:
        if record.total_records and self._pace.is_due():
            percent = record.summary()["progress"]
            self.say(f"{percent} %  {_figures(record)}")

    def say(self, words: str) -> None:
        self._stream.write(f"{words}\n")
        self._stream.flush()


def _figures(record: ImportRecord) -> str:
    summary = record.summary()
    return (
        f"{summary['records_per_second']:,.0f} rows/s  ETA {time_left(summary)}  "
        f"{record.outcomes.duplicates:,} duplicates  {record.outcomes.rejected:,} rejected"
    )


def time_left(summary: Mapping[str, Any]) -> str:
    """Minutes and seconds an import still takes, where its rate tells."""
    if not summary["records_per_second"]:
        return "-:--"
    minutes, seconds = divmod(round(summary["estimated_remaining_seconds"]), 60)
    return f"{minutes}:{seconds:02d}"
