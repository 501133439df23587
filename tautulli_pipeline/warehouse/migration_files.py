"""The numbered migrations of the warehouse, which need no DuckDB to be listed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("migrations")


def migration_names() -> tuple[str, ...]:
    """Return the names of all migrations, in order."""
    return tuple(sorted(script.name for script in _FOLDER.glob("*.sql")))


def migrations() -> dict[str, str]:
    """Return the SQL of each migration by name, in order."""
    return {name: (_FOLDER / name).read_text() for name in migration_names()}
