"""The names in Dagster of what belongs to one server."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import dagster as dg

from tautulli_pipeline.errors import ConfigurationError, in_one_line
from tautulli_pipeline.settings import load_standing_settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Names:
    """The names of one server.

    Attributes:
        server: the server of the configuration file; '' if it lists none.
    """

    server: str = ""

    def _named(self, name: str) -> str:
        """Return a name, with the server between its first word and the others."""
        first, _, others = name.partition("_")
        return f"{first}_{self.server}_{others}" if self.server else name

    def _key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.server, name] if self.server else [name])

    @property
    def database_key(self) -> dg.AssetKey:
        """The key of the source."""
        return self._key("tautulli_database")

    @property
    def history_key(self) -> dg.AssetKey:
        """The key of the plays of the source."""
        return self._key("session_history")

    @property
    def stream_key(self) -> dg.AssetKey:
        """The key of the published events."""
        return self._key("playback_stream")

    @property
    def partitions(self) -> str:
        """The name of the set of partitions."""
        return self._named("history_ranges")

    @property
    def op(self) -> str:
        """The name of the op that publishes."""
        return self._named("publish_partitions")

    @property
    def job(self) -> str:
        """The name of the job that imports."""
        return self._named("import_job")

    @property
    def sensor(self) -> str:
        """The name of the sensor that looks for new plays."""
        return self._named("new_history_sensor")

    @property
    def schedule(self) -> str:
        """The name of the schedule of imports."""
        return self._named("import_schedule")


ONLY = Names()


def names_of_servers() -> list[Names]:
    """Return the names of each server of the configuration file, or those without a server.

    The code location loads whatever the settings are; runs and sensors report what is wrong.
    """
    try:
        return [Names(settings.server) for settings in load_standing_settings().each_server]
    except ConfigurationError as error:
        _log.warning("%s", in_one_line(error))
        return [ONLY]
