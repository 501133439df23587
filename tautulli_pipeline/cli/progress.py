"""Progress on a terminal; elsewhere only messages are printed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from tautulli_pipeline.cli.lines import wrap_for
from tautulli_pipeline.imports.record import ImportRecord

_MESSAGE_AFTER_SECONDS: Final = 0.9
_MESSAGE_EVERY_SECONDS: Final = 10.0


@contextmanager
def open_progress(stream: TextIO, *, by_server: bool = False) -> Iterator[ProgressView]:
    """Show progress on `stream` if it is a terminal, and messages in any case.

    With `by_server`, each server has a line of its own, which `ProgressView.of_server` begins.
    """
    tolerant = cast("TextIO", _Tolerant(stream))
    if not stream.isatty():
        yield ProgressView(tolerant, None)
        return
    bar = Progress(
        *([TextColumn("{task.description}")] if by_server else []),
        TaskProgressColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        console=Console(file=tolerant),
        transient=True,
    )
    with bar:
        view = ProgressView(tolerant, bar)
        if not by_server:
            view.begin_line("")
        yield view


@contextmanager
def showing_upgrade(stream: TextIO) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how many rows of the warehouse are upgraded, and all."""
    with ExitStack() as stack:
        view: ProgressView | None = None

        def show(done: int, total: int) -> None:
            nonlocal view
            if view is None:
                from tautulli_pipeline.warehouse.upgrade import UPGRADING

                view = stack.enter_context(open_progress(stream))
                view.say(UPGRADING)
            view.show_upgraded(done, total)
            if done == total:
                stack.close()

        yield show


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


class ProgressView:
    """Shows one task at a time: first that the database is read, then how far it is."""

    def __init__(self, stream: TextIO, bar: Progress | None) -> None:
        self._stream = stream
        self._bar = bar
        self._message_at: float | None = None
        self._prefix = ""
        self._task: TaskID | None = None

    def begin_line(self, name: str) -> None:
        """Begin a line with this name."""
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=None, figures="reading the database")

    def of_server(self, server: str) -> None:
        """Show the next server, in a line of its own; messages begin with its name."""
        self.begin_line(server)
        self._prefix = f"{server}: "
        self._message_at = None

    def end_line(self, result: str, *, is_done: bool) -> None:
        """Show the result of a server in its line, which stays."""
        if self._bar is not None and self._task is not None:
            (task,) = (task for task in self._bar.tasks if task.id == self._task)
            total = 1 if is_done or task.total is None else task.total
            completed = total if is_done else task.completed
            self._bar.update(self._task, total=total, completed=completed, figures=result)
            self._bar.stop_task(self._task)

    def show(self, record: ImportRecord) -> None:
        """Show how much of an import is stored; before that, how much is published."""
        total, stored = record.total_records, record.outcomes.processed
        if not total:
            return
        published = max(stored, min(record.sent_records, total))
        summary = record.summary()
        figures = f"stored {stored:,} of {total:,}"
        if stored:
            figures += f"  {summary['records_per_second']:,.0f} plays/s  ETA {time_left(summary)}"
        else:
            figures = f"published {published:,} of {total:,}"
        self._update(stored, total, figures)

    def show_copied(self, done: int, total: int) -> None:
        """Show how many bytes of the source are copied; in messages if there is no terminal."""
        figures = f"copied {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        self._update(done, total, figures)
        self._say_sometimes(f"the database is being copied: {figures}")

    def show_upgraded(self, done: int, total: int) -> None:
        """Show how many rows of the warehouse are upgraded; in messages without a terminal."""
        figures = f"upgraded {done:,} of {total:,} rows"
        self._update(done, total, figures)
        self._say_sometimes(f"the warehouse is being upgraded: {figures}")

    def _say_sometimes(self, words: str) -> None:
        """Print a message every few seconds if there is no terminal."""
        now = time.monotonic()
        if self._message_at is None:  # it begins
            self._message_at = now + _MESSAGE_AFTER_SECONDS
        if self._bar is None and now >= self._message_at:
            self._message_at = now + _MESSAGE_EVERY_SECONDS
            self.say(words)

    def show_read(self, done: int, total: int) -> None:
        """Show how many plays are read."""
        self._update(done, total, f"read {done:,} of {total:,} plays")

    def _update(self, completed: float, total: int, figures: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=completed, total=total, figures=figures)

    def say(self, text: str) -> None:
        """Print a message, above the progress on a terminal."""
        text = self._prefix + text
        if self._bar is None:
            self._stream.write(f"{wrap_for(self._stream, text)}\n")
            self._stream.flush()
            return
        wrapped = wrap_for(self._stream, text)
        self._bar.console.print(wrapped, soft_wrap=True, highlight=False, markup=False, emoji=False)


def time_left(summary: Mapping[str, Any]) -> str:
    """Return the remaining time as minutes and seconds, or dashes if the rate is unknown."""
    if not summary["records_per_second"]:
        return "-:--"
    minutes, seconds = divmod(round(summary["estimated_remaining_seconds"]), 60)
    return f"{minutes}:{seconds:02d}"
