"""Recognizes an import that would find nothing new, without loading what such an import needs.

An import that leaves nothing to do remembers the state of all that the next one would look at:
the source, the settings, the warehouse, Dagster's records and the stream. If nothing differs, the
next one only records that it looked.

Several servers share all but their source and settings, and the import of one of them changes what
they share. What is known of the others stays true if it was true when that import began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.directory import data_directory
from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.imports.fingerprints import surveyed_fingerprint
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.known_warehouse import KnownWarehouse
from tautulli_pipeline.imports.record import ImportRecord, log_of
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.imports.wiped_assets import wiped_assets
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Source, Tautulli, name_of
from tautulli_pipeline.source.original import observe
from tautulli_pipeline.stream.server import idle_state

_VERSION: Final = version("tautulli-pipeline")


@dataclass(frozen=True)
class _Known:
    """What an import of one server left.

    Attributes:
        state: see `_own_state`.
        source: the source as the record names it.
        rows: the number of plays of the source, which are all finished.
    """

    state: str
    source: str
    rows: int


@dataclass(frozen=True)
class _Memory:
    """What the imports of all servers left.

    Attributes:
        shared: see `_shared_state`.
        warehouse_id: identifies the warehouse.
        stream_id: identifies the stream.
        unused_stream: the state of the embedded server after the last import; None if there is
            another server, or if somebody else was using it.
        servers: what is known of each server that has nothing to do.
    """

    shared: str
    warehouse_id: str
    stream_id: str
    unused_stream: str | None
    servers: dict[str, _Known] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str]:
        """Where the events went."""
        return self.warehouse_id, self.stream_id


_STORED: Final = TypeAdapter(_Memory)


@dataclass
class Completion:
    """What an import says about itself once it is complete.

    Attributes:
        stream_id: identifies the stream; None unless nothing waits on it.
        source: the source as the record names it; '' unless the import left nothing to do.
        rows: the number of its plays.
    """

    stream_id: str | None = None
    source: str = ""
    rows: int = 0

    def fill(self, record: ImportRecord) -> None:
        """Say that the import that `record` describes left nothing to do."""
        self.source, self.rows = record.source, record.total_records + record.unchanged


@contextmanager
def remembered(settings: Settings, source: Source, server_id: str) -> Iterator[Completion]:
    """Yield a `Completion` to fill in, and remember it with the state of everything.

    What is known of other servers is kept if it is still true. If somebody has wiped an asset in
    Dagster meanwhile, nothing is remembered. Enter this while holding the lock of the import, and
    before the stream is opened.
    """
    layout, completion, others = settings.layout, Completion(), _valid_of_others(settings)
    wiped = wiped_assets(layout.history_index)  # reading may change the times of its log
    _store(layout, others)
    yield completion
    if completion.stream_id is None or wiped_assets(layout.history_index) != wiped:
        return
    unused = idle_state(settings.data_dir) if settings.nats_url is None else None
    warehouse_id = KnownWarehouse(settings).warehouse_id or ""
    memory = _Memory(_shared_state(settings) or "", warehouse_id, completion.stream_id, unused)
    if others is not None and others.place == memory.place:
        memory.servers.update(others.servers)
    if completion.source and (state := _own_state(settings, source, server_id)):
        memory.servers[settings.server] = _Known(state, completion.source, completion.rows)
    _store(layout, memory)


@contextmanager
def still_remembered(settings: Settings) -> Iterator[None]:
    """Keep what is known if the context changes only Dagster's records of other things.

    Enter this while holding the lock of imports.
    """
    memory = _valid(settings)
    wiped = wiped_assets(settings.layout.history_index)
    yield
    if memory is not None and wiped_assets(settings.layout.history_index) == wiped:
        _store(settings.layout, replace(memory, shared=_shared_state(settings) or ""))


def repeated(
    settings: Settings,
    source: Source,
    server_id: str,
    *,
    began_at: float,
    say: Callable[[str], None],
    lock: ImportLock | None = None,
) -> ImportRecord | None:
    """Record an import that found nothing new, if nothing has changed since the last one.

    Args:
        settings: the data directory, the warehouse and the stream.
        source: what to import.
        server_id: identifies its Plex server.
        began_at: when the user began to wait, by `time.monotonic`.
        say: receives messages for the user.
        lock: the lock of the data directory, if it is held for several imports in turn.

    Returns:
        The record; None if there may be something to do.

    Raises:
        ImportRunningError: another import is running.
        SourceError: a Tautulli does not answer; to ask it again would take as long.
    """
    log = log_of(settings, lock)
    try:
        known = _find_valid(settings, source, server_id)
    except PipelineError:
        name = name_of(source)
        noting = log.noting_failure(name, server_id)
        with data_directory(settings, say), log.exclusive(name), noting:
            raise
    if known is None:
        return None
    with data_directory(settings, say), log.exclusive(name_of(source)):
        last = log.read()
        if last is None or last.resumable:
            return None
        with log_to(settings.layout.log("import")):
            running = RunningImport(
                log,
                log.continue_or_begin(known.source, server_id, fresh=False),
                unreadable=(),
                began_at=began_at,
                observe=lambda _record: None,
            )
            with running.until_ended():
                running.cover_nothing(known.rows)
                running.complete()
    return running.record


def _find_valid(settings: Settings, source: Source, server_id: str) -> _Known | None:
    """Return what is known of a server if nothing has changed.

    If a file or the stream fails, the import reports it.

    Raises:
        PipelineError: a running Tautulli does not answer.
    """
    memory = _valid(settings)
    known = memory.servers.get(settings.server) if memory else None
    if memory is None or known is None:
        return None
    try:
        is_same = known.state == _own_state(settings, source, server_id)
    except PipelineError:
        if isinstance(source, Tautulli):
            raise
        return None
    with suppress(PipelineError):
        return known if is_same and _is_idle(settings, memory) else None
    return None


def _valid(settings: Settings) -> _Memory | None:
    """Return what is known if nothing that all servers share has changed, except the stream."""
    with suppress(OSError, ValidationError):
        memory = _STORED.validate_json(settings.layout.repeats.read_bytes())
        return memory if memory.shared == _shared_state(settings) else None
    return None


def _valid_of_others(settings: Settings) -> _Memory | None:
    """Return what is known of the other servers that are configured."""
    memory = _valid(settings)
    if memory is None:
        return None
    ids = {one.server for one in settings.each_server} - {settings.server}
    return replace(memory, servers={key: memory.servers[key] for key in ids & {*memory.servers}})


def _store(layout: DataDir, memory: _Memory | None) -> None:
    if memory is None or not memory.shared or not memory.servers:
        layout.repeats.unlink(missing_ok=True)
        return
    try:
        write_atomically(layout.repeats, _STORED.dump_json(memory))
    except OSError:  # the next import looks at everything
        layout.repeats.unlink(missing_ok=True)


def _own_state(settings: Settings, source: Source, server_id: str) -> str | None:
    """Return a digest that changes with all that an import looks at for its server alone.

    None if the source is not as it was surveyed.
    """
    fingerprint = surveyed_fingerprint(source, settings.layout, settings.tautulli_max_age_hours)
    if fingerprint is None:
        return None
    set_variables = ",".join(sorted(settings.model_fields_set))
    replaced = repr(sorted(settings.servers.replaced.items()))
    return _digest(
        _VERSION, settings.model_dump_json(), set_variables, replaced, server_id, fingerprint
    )


def _shared_state(settings: Settings) -> str | None:
    """Return a digest that changes with all that the imports of all servers look at.

    The stream is not part of it. None if an import has to look itself, because the warehouse is
    not as the last one left it.
    """
    layout, warehouse = settings.layout, KnownWarehouse(settings)
    if not warehouse.is_untouched:
        return None
    # Those of an import that can be resumed are kept, and concern its own server only.
    receipts = sorted(f"{path.parent.name}/{path.name}" for path in layout.receipts.glob("*/*"))
    history = observe(layout.history_index).name_at(layout.history_index)
    file = settings.warehouse_path.stat()
    state = f"{file.st_dev} {file.st_ino} {file.st_size} {file.st_mtime_ns}"
    return _digest(history, state, *receipts)


def _digest(*parts: str) -> str:
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
