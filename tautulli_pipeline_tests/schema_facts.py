"""The columns of each Tautulli version, from era_columns.csv."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NEWEST_TAG = "v2.17.2"
_CSV_PATH = Path(__file__).with_name("era_columns.csv")
_CONSTRAINTS = {
    ("session_history", "id"): "PRIMARY KEY AUTOINCREMENT",
    ("session_history_metadata", "id"): "PRIMARY KEY",
    ("session_history_media_info", "id"): "PRIMARY KEY",
    ("users", "id"): "PRIMARY KEY AUTOINCREMENT",
    ("users", "user_id"): "UNIQUE",
    ("users", "username"): "NOT NULL",
    ("library_sections", "id"): "PRIMARY KEY AUTOINCREMENT",
    ("version_info", "key"): "UNIQUE",
}


def version_key(tag: str) -> tuple[tuple[int, ...], bool]:
    """Return a sort key: by number, with a beta before the release of the same number."""
    match = re.fullmatch(r"v(\d+(?:\.\d+)*)(-beta)?", tag)
    if match is None:
        raise ValueError(f"{tag!r} is not a Tautulli tag")
    numbers = [int(part) for part in match[1].split(".")]
    return (*numbers, 0, 0, 0)[:4], match[2] is None


@dataclass(frozen=True)
class Column:
    table: str
    name: str
    declared_type: str
    default: str
    first_tag: str
    last_tag: str
    upgrade_type: str

    def exists_at(self, tag: str) -> bool:
        began = version_key(self.first_tag) <= version_key(tag)
        return began and (not self.last_tag or version_key(tag) <= version_key(self.last_tag))

    @property
    def declaration(self) -> str:
        """The declaration in a fresh install."""
        default = f"DEFAULT {self.default}" if self.default else ""
        constraint = _CONSTRAINTS.get((self.table, self.name), "")
        return " ".join(filter(None, (self.name, self.declared_type, constraint, default)))

    @property
    def upgrade_declaration(self) -> str:
        """The declaration that ALTER TABLE adds to an older database."""
        return f"{self.name} {self.upgrade_type}" if self.upgrade_type else self.declaration


@cache
def _all_columns() -> tuple[Column, ...]:
    with _CSV_PATH.open(encoding="utf-8", newline="") as file:
        return tuple(Column(*row) for row in list(csv.reader(file))[1:])


def columns_at(tag: str) -> dict[str, list[Column]]:
    """Return the tables and columns of a fresh install of `tag`."""
    tables: dict[str, list[Column]] = {}
    for column in _all_columns():
        if column.exists_at(tag):
            tables.setdefault(column.table, []).append(column)
    return tables


def create_table(table: str, declarations: list[str]) -> str:
    unique = ["UNIQUE (server_id, section_id)"] if table == "library_sections" else []
    return f"CREATE TABLE {table} ({', '.join([*declarations, *unique])})"


# Every tag that added a column to one of the six tables, and the newest tag.
TAGS: tuple[str, ...] = tuple(
    sorted({column.first_tag for column in _all_columns()} | {NEWEST_TAG}, key=version_key)
)
