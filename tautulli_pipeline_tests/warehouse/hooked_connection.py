"""A warehouse connection that calls a hook before chosen statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb


class HookedConnection:
    """A connection that calls `hook` before each statement that contains `marker`."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, marker: str, hook: Callable[[], Any]
    ) -> None:
        self._connection = connection
        self._marker = marker
        self._hook = hook

    def execute(self, sql: str, *arguments: Any) -> duckdb.DuckDBPyConnection:
        if self._marker in sql:
            self._hook()
        return self._connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
