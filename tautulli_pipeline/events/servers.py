"""Server ids that count as one server, after a server got another id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tautulli_pipeline.events.identity import quote_literal


@dataclass(frozen=True)
class Servers:
    """Earlier ids of servers. Stored rows keep their id; keys use the current one.

    Attributes:
        replaced: the current id of a server by its earlier ids.
    """

    replaced: Mapping[str, str] = field(default_factory=dict)

    def current(self, server_id: str) -> str:
        """Return the id that this id counts as."""
        return self.replaced.get(server_id, server_id)

    def sql(self, column: str) -> str:
        """Return SQL for the id that the id in `column` counts as."""
        if not self.replaced:
            return column
        cases = " ".join(
            f"WHEN {quote_literal(old)} THEN {quote_literal(new)}"
            for old, new in self.replaced.items()
        )
        return f"CASE {column} {cases} ELSE {column} END"


ONLY_CURRENT_IDS = Servers()
