"""Expected errors with their exit codes.

A message says in one line which operation failed, on what and why; the hint says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class PipelineError(Exception):
    """Base class of all expected errors."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        # What else is known, such as what became of other servers.
        self.more: Mapping[str, Any] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """The error as a JSON object."""
        return {**self.more, "error": self.message, "hint": self.hint}


def in_one_line(error: BaseException) -> str:
    """Return what failed and what to do about it."""
    if isinstance(error, PipelineError):
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return f"unexpected {type(error).__name__}: {str(error).partition(chr(10))[0]}"


class ConfigurationError(PipelineError):
    """A setting or an argument is not usable."""

    exit_code = 2


class SourceError(PipelineError):
    """The source is unreadable or not a Tautulli database."""

    exit_code = 3


class SourceDamagedError(SourceError):
    """The source is a Tautulli database, but some of it cannot be read."""


class SourceChangedError(SourceError):
    """The source kept changing while it was copied."""


class ImportRunningError(PipelineError):
    """Another import of the same data directory is running."""

    exit_code = 4

    def __init__(
        self, message: str, *, hint: str = "", progress: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.progress = progress

    @property
    def facts(self) -> dict[str, Any]:
        """The error as a JSON object, with the progress of the running import."""
        return super().facts | ({"progress": self.progress} if self.progress else {})


class StreamError(PipelineError):
    """JetStream is unreachable or rejects a request."""

    exit_code = 5


class WarehouseError(PipelineError):
    """The warehouse is locked by another process or not writable."""

    exit_code = 6


class WarehouseHeldError(WarehouseError):
    """Another program has the warehouse open."""

    @property
    def waiting(self) -> str:
        """What to say while waiting for that program."""
        return f"{self.message}; waiting for it to close the file"


class WarehouseVersionError(WarehouseError):
    """Another version of the pipeline has written the warehouse."""


class WarehouseBrokenError(WarehouseError):
    """DuckDB refuses all work until the warehouse is reopened."""


class AnalyticsError(WarehouseError):
    """The analytics could not be built from the warehouse; the import is not affected."""


class StoppedError(PipelineError):
    """The operation was stopped on request and can be resumed."""

    exit_code = 130
