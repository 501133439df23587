"""What of a damaged file cannot be read, in words and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tautulli_pipeline.errors import SourceDamagedError

SALVAGE_HINT: Final = (
    "`import --salvage` brings in what can be read; one of Tautulli's backups may hold it all"
)
BACKUP_HINT: Final = "the file is damaged; restore one of Tautulli's backups"

_SPANS_SHOWN: Final = 50


@dataclass(frozen=True)
class Damage:
    """Rows of one table that cannot be read.

    Attributes:
        ids: those that something else in the file names, ascending.
        spans: the same as first and last ids between which nothing could be read.
        cause: SQLite's word for it.
    """

    table: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    cause: str

    def facts(self) -> dict[str, Any]:
        """As JSON gives it."""
        ids = [f"{last}" if first == last else f"{first}-{last}" for first, last in self.spans]
        return {"table": self.table, "rows": len(self.ids), "ids": ids, "cause": self.cause}


def in_words(facts: Mapping[str, Any]) -> str:
    """One damage, as `facts` gave it, for people."""
    table, rows, ids = facts["table"], facts["rows"], facts["ids"]
    if not rows:
        return f"{table} in part, where nothing else names its rows ({facts['cause']})"
    shown = ", ".join(ids[:_SPANS_SHOWN])
    more = f" and in {len(ids) - _SPANS_SHOWN} more places" * (len(ids) > _SPANS_SHOWN)
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    return f"{counted} of {table}, id {shown}{more} ({facts['cause']})"


def damaged(named: Path, damages: Sequence[Damage]) -> SourceDamagedError:
    """The fault that names them all."""
    words = "; ".join(in_words(damage.facts()) for damage in damages)
    return SourceDamagedError(f"cannot read all of {named}: {words}", hint=SALVAGE_HINT)
