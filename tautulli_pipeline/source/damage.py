"""Descriptions of the unreadable rows of a damaged file, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.source.address import Named

SALVAGE_HINT: Final = (
    "`import --salvage` imports what is readable; a Tautulli backup may be complete"
)
BACKUP_HINT: Final = "the file is damaged; restore a Tautulli backup"

_SPANS_SHOWN: Final = 50


@dataclass(frozen=True)
class Damage:
    """The unreadable rows of one table.

    Attributes:
        ids: the unreadable ids that are known from elsewhere in the file, ascending.
        spans: the same ids as (first, last) ranges in which nothing is readable.
        cause: SQLite's error message.
    """

    table: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    cause: str

    def facts(self) -> dict[str, Any]:
        """Return the damage as a JSON object."""
        ids = [f"{last}" if first == last else f"{first}-{last}" for first, last in self.spans]
        return {"table": self.table, "rows": len(self.ids), "ids": ids, "cause": self.cause}


def in_words(facts: Mapping[str, Any]) -> str:
    """Describe one damage for people, from the result of `facts`."""
    table, rows, ids = facts["table"], facts["rows"], facts["ids"]
    if not rows:
        return f"an unknown number of rows of {table} ({facts['cause']})"
    shown = ", ".join(ids[:_SPANS_SHOWN])
    more = f" and {len(ids) - _SPANS_SHOWN} more ranges" * (len(ids) > _SPANS_SHOWN)
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    return f"{counted} of {table}, id {shown}{more} ({facts['cause']})"


def damaged(named: Named, damages: Sequence[Damage]) -> SourceDamagedError:
    """Return an error that lists all damage."""
    words = "; ".join(in_words(damage.facts()) for damage in damages)
    return SourceDamagedError(f"cannot read all of {named}: {words}", hint=SALVAGE_HINT)
