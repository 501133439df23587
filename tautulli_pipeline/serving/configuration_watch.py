"""Notices changes of the configuration file while `up` runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, in_one_line
from tautulli_pipeline.settings import Settings, load_standing_settings

_SETTLES_AFTER_SECONDS: Final = 1.0


@dataclass
class ConfigurationWatch:
    """Watches the configuration file.

    Attributes:
        settings: the settings with the last usable file.
        say: receives what has changed, or why a file is not usable.
    """

    settings: Settings
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._seen = self._changing = self._look()
        self._changing_since = time.monotonic()

    def has_new_servers(self) -> bool:
        """Read the file if it has changed; return whether other servers are in force now."""
        seen = self._look()
        if seen != self._changing:
            self._changing, self._changing_since = seen, time.monotonic()
        # An editor may not have written all of it yet.
        if seen == self._seen or time.monotonic() - self._changing_since < _SETTLES_AFTER_SECONDS:
            return False
        self._seen = seen
        try:
            settings = load_standing_settings(self.say)
        except ConfigurationError as error:
            self.say(in_one_line(error))
            return False
        before, self.settings = self.settings.configuration, settings
        if settings.configuration == before:
            return False
        self.say(f"{settings.configuration_file} has changed; {_servers_of(settings)}")
        return settings.configuration.servers != before.servers

    def _look(self) -> tuple[int, int, int] | None:
        """Return what changes with the file; None if there is none."""
        with suppress(OSError):
            found = self.settings.configuration_file.stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
        return None


def _servers_of(settings: Settings) -> str:
    if not settings.has_servers:
        return "it lists no servers"
    ids = [one.server for one in settings.each_server]
    return f"the server{' is' if len(ids) == 1 else 's are'} {', '.join(ids)}"
