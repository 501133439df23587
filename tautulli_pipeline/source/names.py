"""Reads the names of users and libraries from a private copy."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.queries import CopyConnection, explained, open_copy
from tautulli_pipeline.source.reader import NAME_CHARACTERS, sections_in_use_first
from tautulli_pipeline.source.schema import SourceSchema

# No Tautulli has so many; a file that was made to fill the memory may.
_MOST_ROWS: Final = 50_000
_LARGEST_ID: Final = 2**31 - 1


@dataclass(frozen=True)
class SourceNames:
    """The names in a file.

    Attributes:
        users: (user_id, username, friendly_name) of each user.
        libraries: (section_id, name, type, active) of each library.
    """

    users: tuple[tuple[int, str | None, str | None], ...] = ()
    libraries: tuple[tuple[int, str | None, str | None, bool | None], ...] = ()

    @property
    def digest(self) -> str:
        """Changes when a name changes."""
        return hashlib.blake2b(orjson.dumps(asdict(self)), digest_size=8).hexdigest()


def read_names(database: Path, schema: SourceSchema, *, named: Named) -> SourceNames:
    """Read the names; messages name `named`, the user's path.

    Of several rows of one user, the newest counts; of several libraries with one number, the one
    that is in use.

    Raises:
        SourceError: they cannot be read.
    """
    with open_copy(database) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        with explained(connection, f"cannot read {named}"):
            return SourceNames(_users(connection, schema), _libraries(connection, schema))


def _users(
    connection: CopyConnection, schema: SourceSchema
) -> tuple[tuple[int, str | None, str | None], ...]:
    if not schema.has("users", "user_id"):
        return ()
    found: dict[int, tuple[int, str | None, str | None]] = {}
    columns = [_text(schema, "users", name) for name in ("username", "friendly_name")]
    for user_id, username, friendly in _rows(
        connection, f"SELECT user_id, {', '.join(columns)} FROM users ORDER BY rowid"
    ):
        if isinstance(user_id, int) and abs(user_id) <= _LARGEST_ID:
            shown = friendly if friendly and friendly.strip(" ") else username
            found[user_id] = (user_id, username or None, shown or None)
    return tuple(found[key] for key in sorted(found))


def _libraries(
    connection: CopyConnection, schema: SourceSchema
) -> tuple[tuple[int, str | None, str | None, bool | None], ...]:
    table = "library_sections"
    if not schema.has(table, "section_id", "section_name"):
        return ()
    columns = [_text(schema, table, name) for name in ("section_name", "section_type")]
    flags = [
        name if schema.has(table, name) else "NULL" for name in ("is_active", "deleted_section")
    ]
    order = sections_in_use_first(schema)
    found: dict[int, tuple[int, str | None, str | None, bool | None]] = {}
    for section_id, name, kind, active, deleted in _rows(
        connection,
        f"SELECT section_id, {', '.join([*columns, *flags])} FROM {table} ORDER BY {order}",
    ):
        if isinstance(section_id, int):
            is_active = None if active is None else active == 1 and deleted != 1
            found.setdefault(section_id, (section_id, name or None, kind or None, is_active))
    return tuple(found[key] for key in sorted(found))


def _text(schema: SourceSchema, table: str, column: str) -> str:
    return f"substr({column}, 1, {NAME_CHARACTERS})" if schema.has(table, column) else "NULL"


def _rows(connection: CopyConnection, sql: str) -> list[Any]:
    return connection.execute(f"{sql} LIMIT {_MOST_ROWS}").fetchall()
