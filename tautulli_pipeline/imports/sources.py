"""The source that a person or a setting names: a file, or a running Tautulli with its key."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tautulli_pipeline.configuration import is_address
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.settings import Settings, read_secret
from tautulli_pipeline.source.address import Address, Source, Tautulli


def resolve_source(settings: Settings, given: Path | str) -> Source:
    """Return the source at a path or an address.

    Raises:
        ConfigurationError: the address is not usable, or there is no key for it.
    """
    if isinstance(given, Path) or not is_address(given):
        path = Path(given)
        # `~name` is a file name if there is no such user.
        with suppress(RuntimeError):
            return path.expanduser()
        return path
    address = Address.parse(given)
    return Tautulli(address, _key_for(settings, address), settings.tautulli_tls_ca)


def servers_of(
    settings: Settings, server_id: str | None, source: Path | str | None = None
) -> tuple[Settings, ...]:
    """Return the settings of the servers that a command or a request is about.

    Args:
        settings: the settings of the data directory.
        server_id: the server that was named.
        source: the database that was named instead of the configured one.

    Raises:
        ConfigurationError: there is no such server, or it is not clear whose database it is.
    """
    chosen = settings.of_server(server_id)
    if source is None or len(chosen) == 1:
        return chosen
    given = _spelled(source)
    owners = [one for one in chosen if one.import_db_path and _spelled(one.import_db_path) == given]
    if not owners:
        ids = ", ".join(one.server for one in chosen)
        raise ConfigurationError(
            f"it is not clear which server {source} belongs to",
            hint=f"name one of {ids} as the server",
        )
    return (owners[0],)


def _spelled(source: Path | str) -> str:
    """Return the one spelling of a source that has several."""
    if is_address(str(source)):
        return str(source).rstrip("/")
    return os.path.realpath(Path(source).expanduser())


def configured_source(settings: Settings) -> Source | None:
    """Return the source that `IMPORT_DB_PATH` names; None if it is not set."""
    if settings.import_db_path is None:
        return None
    return resolve_source(settings, settings.import_db_path)


def _key_for(settings: Settings, address: Address) -> str:
    if settings.tautulli_api_key is not None:
        return settings.tautulli_api_key.get_secret_value()
    file = settings.tautulli_api_key_file
    if file is None:
        raise ConfigurationError(
            f"there is no API key for {address}",
            hint="copy it from Tautulli's Settings > Web Interface to TAUTULLI_API_KEY, or to a "
            "file that TAUTULLI_API_KEY_FILE names",
        )
    return read_secret(file, "API key", "TAUTULLI_API_KEY_FILE").strip()
