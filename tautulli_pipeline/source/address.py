"""Addresses of running Tautullis, and what is needed to ask one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tautulli_pipeline.errors import ConfigurationError


@dataclass(frozen=True)
class Address:
    """The address of a Tautulli, `http(s)://host[:port][/root]`, without any secret."""

    url: str

    def __str__(self) -> str:
        return self.url

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address without a slash at its end.

        Raises:
            ConfigurationError: it is not an address, or it has a user, a password or a query.
        """
        example = "write it like http://nas:8181 or https://example.org/tautulli"
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or any(character.isspace() for character in text.strip()):
            raise ConfigurationError("the address of the Tautulli has no valid host", hint=example)
        # None of these is repeated in the message: they may hold the key.
        if parts.query or parts.fragment or parts.username is not None:
            raise ConfigurationError(
                f"the address of the Tautulli at {host} must not have a user, password or query",
                hint="set the key as TAUTULLI_API_KEY, or its file as TAUTULLI_API_KEY_FILE",
            )
        shown = f"[{host}]" if ":" in host else host
        suffix = f":{port}" if port is not None else ""
        return cls(f"{parts.scheme.lower()}://{shown}{suffix}{parts.path.rstrip('/')}")


@dataclass(frozen=True)
class Tautulli:
    """A running Tautulli whose database is downloaded over its API.

    Attributes:
        address: where it is; the only part that is ever shown or stored.
        api_key: the key from its settings.
        tls_ca: a file with the certificate authority that signed its certificate, if it is not
            one that this system trusts.
    """

    address: Address
    api_key: str = field(repr=False)
    tls_ca: Path | None = None

    def __str__(self) -> str:
        return self.address.url


# What is read: a file, or a running Tautulli.
Source = Path | Tautulli
# What people see of it.
Named = Path | Address


def name_of(source: Source) -> Named:
    """Return the path or the address of a source."""
    return source.address if isinstance(source, Tautulli) else source
