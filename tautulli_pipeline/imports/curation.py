"""Manual changes to the audit and the dead letters, as the only writer of the warehouse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from duckdb import DuckDBPyConnection

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.data_dir.directory import explained_faults, make_data_dir
from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.events.columns import HISTORY
from tautulli_pipeline.imports.known_warehouse import require_known_version
from tautulli_pipeline.imports.record import log_of
from tautulli_pipeline.imports.replay import Tried, replay
from tautulli_pipeline.imports.sources import configured_source
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Source
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.warehouse.dead_letters import (
    KIND,
    TABLE,
    open_ids,
    open_ids_of_servers,
    open_origins,
)
from tautulli_pipeline.warehouse.reading import find_ids, no_such, open_to_read
from tautulli_pipeline.warehouse.schema import open_warehouse
from tautulli_pipeline.warehouse.upgrade import OnUpgraded

# Users do not want to wait for a consumer that keeps running.
_PATIENCE_SECONDS: Final = 1.0


def replay_letters(
    connection: DuckDBPyConnection,
    settings: Settings,
    given: Sequence[str],
    database: Source | None,
    *,
    reason: str | None = None,
    **filters: object,
) -> tuple[Tried, ...]:
    """Replay the given dead letters, or all open ones if none is given.

    Args:
        connection: the warehouse.
        settings: name the source if `database` is None.
        given: ids or id prefixes.
        database: the source to read the rows from again.
        reason: without ids, only letters whose reason starts with this.
        filters: without ids, required values by column; None matches any value.

    Raises:
        ConfigurationError: there is no such dead letter.
        SourceError: the source cannot be read.
    """
    origins = open_origins(connection)
    ids = find_ids(connection, TABLE, given, KIND) if given else list(origins)
    if any(value is not None for value in (reason, *filters.values())):
        chosen = set(open_ids(connection, filters, reason=reason))
        ids = [letter_id for letter_id in ids if letter_id in chosen]
    tried: list[Tried] = []
    # Each server's rows are read from its own source.
    for one in settings.each_server if settings.has_servers else ():
        own = open_ids_of_servers(connection, one.own_ids)
        tried += _replay_of(connection, one, [n for n in ids if n in own], database)
        ids = [n for n in ids if n not in own]
    if not settings.has_servers and HISTORY in map(origins.get, ids):
        return tuple(_replay_of(connection, settings, ids, database))
    return (*tried, *replay(connection, ids, None, settings.import_server_id))


def _replay_of(
    connection: DuckDBPyConnection,
    settings: Settings,
    ids: Sequence[str],
    database: Source | None,
) -> list[Tried]:
    """Replay letters of rows of one server, with the rows that its source has now."""
    path = database or configured_source(settings)
    with ExitStack() as stack:
        source = None
        if ids and path is not None:
            source = stack.enter_context(open_source(path, settings.layout.snapshots))
        return list(replay(connection, ids, source, settings.import_server_id))


@contextmanager
def open_for_curation(
    settings: Settings,
    kind: str,
    given: Sequence[str],
    on_upgraded: OnUpgraded = lambda _done, _total: None,
) -> Iterator[DuckDBPyConnection]:
    """Open the warehouse and lock out every consumer and every other writer.

    Args:
        settings: the warehouse and the data directory.
        kind: the kind of row that `given` identifies, for the error message.
        given: ids or id prefixes.
        on_upgraded: receives how many rows of the warehouse are upgraded, and all.

    Raises:
        ConfigurationError: ids are given, but there is no warehouse.
        ImportRunningError: an import is writing to it.
        WarehouseError: another process holds it.
    """
    path = settings.warehouse_path
    if not path.exists() and given:
        raise no_such(kind, given[0])
    require_known_version(settings)
    with ExitStack() as stack:
        stack.enter_context(explained_faults(settings.data_dir))
        make_data_dir(settings)
        lock = consumer_lock(settings.layout, path, patience_seconds=_PATIENCE_SECONDS)
        try:
            stack.enter_context(lock)
        except WarehouseError:
            log = log_of(settings)
            if log.lock.holder():
                raise log.running() from None
            if path.exists():
                with open_to_read(path):
                    pass  # fails and names the consumer process
            raise
        yield stack.enter_context(open_warehouse(path, on_upgraded=on_upgraded))
