"""Remembers the id of the warehouse, so that an import can be planned while others hold the file.

A file is recognized by its device and inode. The consumer confirms the id when it opens the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.warehouse.migration_files import migration_names


@dataclass(frozen=True)
class _Memory:
    """A warehouse and its file.

    Attributes:
        left_as: the size and the time of the last change when an import left it complete; None
            since another import opened it.
        servers: the servers whose plays were imported, the first one first.
        names: a digest of the names that were stored last, by server.
        migrations: those of the version that opened it.
        newest: the newest start of a play in the files imported so far, by server.
    """

    warehouse_id: str
    device: int
    inode: int
    left_as: tuple[int, int] | None = None
    servers: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    migrations: tuple[str, ...] = ()
    newest: dict[str, int] = field(default_factory=dict)


_STORED: Final = TypeAdapter(_Memory)


class KnownWarehouse:
    """What a data directory remembers about its warehouse.

    Attributes:
        warehouse_id: the id; None if it is not known, or if there is another file now.
        is_untouched: whether nothing was written to the file since an import left it complete.
        is_of_this_version: whether that import had the same migrations.
        exists: whether there is a file.
        servers: the servers whose plays are known to be in it, the first one first.
        names: a digest of the names that were stored last, by server.
        newest: the newest start of a play in the files imported so far, in Unix seconds, by
            current server id.
    """

    def __init__(self, settings: Settings) -> None:
        self._memory = settings.layout.known_warehouse
        self._path = settings.warehouse_path
        self._is_open = False
        known, found = self._recall(), self._look()
        same = known and found and (known.device, known.inode) == (found.st_dev, found.st_ino)
        self.warehouse_id = known.warehouse_id if known and same else None
        self.exists = found is not None
        self.servers = known.servers if known and same else ()
        self.names = dict(known.names) if known and same else {}
        self.newest = dict(known.newest) if known and same else {}
        self.is_untouched = bool(known and found and same and known.left_as == _state(found))
        same_version = known is not None and known.migrations == migration_names()
        self.is_of_this_version = self.is_untouched and same_version

    def opened(self, warehouse_id: str, servers: Sequence[str], newest: Mapping[str, int]) -> None:
        """Remember the id, the servers and their newest starts, as the consumer found them."""
        if warehouse_id != self.warehouse_id:
            self.names, self.newest = {}, {}
        self.newest |= {
            server: max(at, self.newest.get(server, 0)) for server, at in newest.items()
        }
        self.warehouse_id, self._is_open = warehouse_id, True
        self.servers = tuple(servers)
        self._remember(is_complete=False)

    def named(self, server_id: str, digest: str) -> None:
        """Remember that the names of a server are stored."""
        self.names[server_id] = digest
        if server_id not in self.servers:
            self.servers = (*self.servers, server_id)

    def speaks(self, server_id: str, newest: int) -> None:
        """Remember the newest start in a file before something of it is published."""
        if newest > self.newest.get(server_id, 0):
            self.newest[server_id] = newest
            self._remember(is_complete=False)

    @contextmanager
    def left_complete(self) -> Iterator[None]:
        """Remember how the file looks if the context opens it and succeeds; closed by then."""
        yield
        if self._is_open:
            self._remember(is_complete=True)

    def _remember(self, *, is_complete: bool) -> None:
        found = self._look()
        if found is not None and self.warehouse_id is not None:
            left_as = _state(found) if is_complete else None
            memory = _Memory(
                self.warehouse_id,
                device=found.st_dev,
                inode=found.st_ino,
                left_as=left_as,
                servers=self.servers,
                names=self.names,
                migrations=migration_names(),
                newest=self.newest,
            )
            with suppress(OSError):  # the next import opens the warehouse first
                write_atomically(self._memory, _STORED.dump_json(memory))

    def _recall(self) -> _Memory | None:
        with suppress(OSError, ValidationError):
            return _STORED.validate_json(self._memory.read_bytes())
        return None

    def _look(self) -> os.stat_result | None:
        with suppress(OSError):
            return self._path.stat()
        return None


def require_known_version(settings: Settings) -> None:
    """Refuse a data directory that a newer version has used, before anything is written to it.

    If another program holds the warehouse, whatever opens it next refuses it. While an import
    runs, its consumer has looked, and must not find the file open.

    Raises:
        WarehouseVersionError: a newer or an unreleased version has changed the warehouse.
    """
    known = KnownWarehouse(settings)
    if not known.exists or known.is_of_this_version or ImportLock(settings.data_dir).is_held():
        return
    # Only now, because DuckDB takes a tenth of a second to load.
    from tautulli_pipeline.warehouse.reading import refuse_newer

    refuse_newer(settings.warehouse_path)


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
