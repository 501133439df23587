"""A warehouse connection on which something else happens at a chosen statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb


class Meddled:
    """A connection that calls `meddle` before each statement that contains `marker`."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, marker: str, meddle: Callable[[], Any]
    ) -> None:
        self._connection = connection
        self._marker = marker
        self._meddle = meddle

    def execute(self, sql: str, *arguments: Any) -> duckdb.DuckDBPyConnection:
        if self._marker in sql:
            self._meddle()
        return self._connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
