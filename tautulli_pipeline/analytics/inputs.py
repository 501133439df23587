"""What the analytics were built from, so that they are built again only if that has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.settings import Settings

if TYPE_CHECKING:
    import duckdb

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Account:
    """A user of a server, and the name of the person whom it belongs to."""

    server_id: str
    user_id: int
    person: str


@dataclass(frozen=True)
class Request:
    """What to build, and from what.

    Attributes:
        data_dir: the folder of `analytics.duckdb`.
        warehouse: the file to read.
        timezone: the zone of all local times, an IANA name.
        people: accounts with a given name of their person; others have the newest known name.
    """

    data_dir: Path
    warehouse: Path
    timezone: str
    people: Sequence[Account] = ()

    @property
    def layout(self) -> DataDir:
        """The paths in the data directory."""
        return DataDir(self.data_dir)


def request_for(settings: Settings) -> Request:
    """Return what to build with these settings."""
    current = settings.servers.current
    people = tuple(
        Account(current(account.server), account.id, person.name)
        for person in settings.configuration.people
        for account in person.users
    )
    return Request(settings.data_dir, settings.warehouse_path, settings.timezone, people)


@dataclass(frozen=True)
class Inputs:
    """What a build read and wrote.

    Attributes:
        settings: digest of everything but the warehouse: time zone, people, SQL.
        warehouse: state of its file and its log.
        contents: digest of what its tables hold.
        result: state of the file that was built.
    """

    settings: str
    warehouse: str
    contents: str
    result: str


_STORED: Final = TypeAdapter(Inputs)


def digest_of_settings(request: Request) -> str:
    """Return a digest of the time zone, the people and the SQL of the tables."""
    digest = hashlib.sha256(f"{request.warehouse}\0{request.timezone}".encode())
    people = sorted((one.server_id, one.user_id, one.person) for one in request.people)
    digest.update(repr(people).encode())
    for file in sorted(_FOLDER.rglob("*")):
        if file.suffix in {".sql", ".py"}:
            digest.update(file.read_bytes())
    return digest.hexdigest()


# New and restored plays, revisions, and every name.
_CONTENTS: Final = """
    SELECT (SELECT md5(concat_ws('|', count(*), max(created_at), max(restored_at),
            count(restored_at))) FROM warehouse.playback_events),
        (SELECT md5(concat_ws('|', count(*), max(revised_at))) FROM warehouse.playback_revisions),
        (SELECT md5(string_agg(u::VARCHAR, '|' ORDER BY u::VARCHAR)) FROM warehouse.users u),
        (SELECT md5(string_agg(l::VARCHAR, '|' ORDER BY l::VARCHAR)) FROM warehouse.libraries l),
        (SELECT md5(string_agg(concat_ws(' ', server_id, current_id), '|' ORDER BY server_id))
            FROM warehouse.servers),
        (SELECT any_value(warehouse_id) FROM warehouse.warehouse_identity)
"""


def digest_of_contents(connection: duckdb.DuckDBPyConnection) -> str:
    """Return a digest of what the attached warehouse holds; it does not read every row."""
    return "|".join(map(str, connection.execute(_CONTENTS).fetchall()[0]))


def state_of(file: Path) -> str:
    """Return what changes when a DuckDB file or its log is written; '' if there is none."""
    states = []
    for path in (file, file.with_name(f"{file.name}.wal")):
        with suppress(OSError):
            found = path.stat()
            states.append(f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}")
    return "|".join(states)


def read_inputs(layout: DataDir) -> Inputs | None:
    """Return what the last build recorded; None if nothing or another version's record is there."""
    with suppress(OSError, ValidationError):
        return _STORED.validate_json(layout.analytics_inputs.read_bytes())
    return None


def write_inputs(layout: DataDir, inputs: Inputs) -> None:
    """Record what a build read and wrote."""
    write_atomically(layout.analytics_inputs, _STORED.dump_json(inputs))


def is_current(request: Request) -> bool:
    """Whether the analytics are built from what is there now; opens no database.

    True if there is no warehouse, because there is nothing to build then.
    """
    if not request.warehouse.exists():
        return True
    recorded, layout = read_inputs(request.layout), request.layout
    return recorded is not None and recorded == replace(
        recorded,
        settings=digest_of_settings(request),
        warehouse=state_of(request.warehouse),
        result=state_of(layout.analytics),
    )
