"""Recognizes an import that would find nothing new, without loading what such an import needs.

An import that leaves nothing to do remembers the state of all that the next one would look at:
the source, the settings, the warehouse, Dagster's records and the stream. If nothing differs, the
next one only records that it looked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.directory import data_directory
from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.imports.fingerprints import surveyed_fingerprint
from tautulli_pipeline.imports.known_warehouse import KnownWarehouse
from tautulli_pipeline.imports.record import ImportRecord, log_of
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Source, name_of
from tautulli_pipeline.source.original import observe
from tautulli_pipeline.stream.server import idle_state

_VERSION: Final = version("tautulli-pipeline")


@dataclass(frozen=True)
class _Memory:
    """What an import left.

    Attributes:
        state: see `_state_of`.
        source: the source as the record names it.
        stream_id: identifies the stream.
        unused_stream: the state of the embedded server after the import; None if there is
            another server, or if somebody else was using it.
        rows: the number of plays of the source, which are all finished.
    """

    state: str
    source: str
    stream_id: str
    unused_stream: str | None
    rows: int


_STORED: Final = TypeAdapter(_Memory)


@dataclass
class Completion:
    """What an import says about itself once it is complete.

    Attributes:
        stream_id: identifies the stream; None unless the import left nothing to do.
        source: the source as the record names it.
        rows: the number of its plays.
    """

    stream_id: str | None = None
    source: str = ""
    rows: int = 0

    def fill(self, stream_id: str, record: ImportRecord) -> None:
        """Say that the import that `record` describes left nothing to do."""
        self.stream_id, self.source = stream_id, record.source
        self.rows = record.total_records + record.unchanged


@contextmanager
def remembered(settings: Settings, source: Source, server_id: str) -> Iterator[Completion]:
    """Yield a `Completion` to fill in, and remember it with the state of everything.

    Enter this while holding the lock of the import, and before the stream is opened.
    """
    layout, completion = settings.layout, Completion()
    layout.repeats.unlink(missing_ok=True)
    yield completion
    if completion.stream_id is None:
        return
    unused = idle_state(settings.data_dir) if settings.nats_url is None else None
    state = _state_of(settings, source, server_id)
    if state is not None:
        memory = _Memory(state, completion.source, completion.stream_id, unused, completion.rows)
        with suppress(OSError):  # the next import looks at everything
            write_atomically(layout.repeats, _STORED.dump_json(memory))


def repeated(
    settings: Settings,
    source: Source,
    server_id: str,
    *,
    began_at: float,
    say: Callable[[str], None],
) -> ImportRecord | None:
    """Record an import that found nothing new, if nothing has changed since the last one.

    Args:
        settings: the data directory, the warehouse and the stream.
        source: what to import.
        server_id: identifies its Plex server.
        began_at: when the user began to wait, by `time.monotonic`.
        say: receives messages for the user.

    Returns:
        The record; None if there may be something to do.

    Raises:
        ImportRunningError: another import is running.
    """
    memory = _recall(settings.layout)
    if memory is None or not _is_valid(memory, settings, source, server_id):
        return None
    log = log_of(settings)
    with data_directory(settings, say), log.exclusive(name_of(source)):
        last = log.read()
        if last is None or last.resumable:
            return None
        with log_to(settings.layout.log("import")):
            running = RunningImport(
                log,
                log.continue_or_begin(memory.source, server_id, fresh=False),
                unreadable=(),
                began_at=began_at,
                observe=lambda _record: None,
            )
            with running.until_ended():
                running.cover_nothing(memory.rows)
                running.complete()
    return running.record


def _recall(layout: DataDir) -> _Memory | None:
    with suppress(OSError, ValidationError):
        return _STORED.validate_json(layout.repeats.read_bytes())
    return None


def _is_valid(memory: _Memory, settings: Settings, source: Source, server_id: str) -> bool:
    """Whether nothing has changed; if the source or the stream fails, the import reports it."""
    with suppress(PipelineError):
        is_same = memory.state == _state_of(settings, source, server_id)
        return is_same and _is_idle(settings, memory)
    return False


def _state_of(settings: Settings, source: Source, server_id: str) -> str | None:
    """Return a digest that changes with all that an import looks at, except the stream.

    None if the import has to look itself, because the warehouse is not as the last one left it or
    the source is not as it was surveyed.
    """
    layout, warehouse = settings.layout, KnownWarehouse(settings)
    if not warehouse.is_untouched or any(layout.receipts.glob("*/*")):
        return None
    fingerprint = surveyed_fingerprint(source, layout, settings.tautulli_max_age_hours)
    if fingerprint is None:
        return None
    set_variables = ",".join(sorted(settings.model_fields_set))
    history = observe(layout.history_index).name_at(layout.history_index)
    file = settings.warehouse_path.stat()
    parts = (
        *(_VERSION, settings.fingerprint, set_variables, server_id, fingerprint, history),
        f"{file.st_dev} {file.st_ino} {file.st_size} {file.st_mtime_ns}",
    )
    # An address of the stream can hold a password.
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def _is_idle(settings: Settings, memory: _Memory) -> bool:
    """Whether no event can wait on the stream; one that is running is asked."""
    if settings.nats_url is None:
        state = idle_state(settings.data_dir)
        if state is not None:
            return state == memory.unused_stream
    # Only now, because it takes a third of a second to load.
    from tautulli_pipeline.imports.connections import find_backlog

    return find_backlog(settings) == (memory.stream_id, 0)
