"""Stream addresses: parsing `NATS_URL` and displaying it without secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tautulli_pipeline.errors import ConfigurationError

_DEFAULT_PORT: Final = 4222
_SCHEMES: Final = frozenset({"nats", "tls"})
# Passwords may contain unescaped characters, so everything up to the last @ before the next
# server with a scheme counts as the login.
_USER_IN_URL: Final = re.compile(r"(^|,)(\s*\w+://)?(?:(?!,\s*\w+://).)*@", re.DOTALL)


@dataclass(frozen=True)
class StreamAddress:
    """The location of a stream and the credentials to connect to it.

    Attributes:
        url: one server, or the servers of a cluster separated by commas; may contain a password.
        private: whether no other program can reach the server.
        patience_seconds: how long to wait for a server that becomes unreachable.
    """

    url: str = field(repr=False)
    stream: str
    durable_name: str
    duplicate_window_seconds: float
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    ca_file: Path | None = None
    private: bool = False
    patience_seconds: float = 120.0

    @property
    def shown_url(self) -> str:
        """The URL without users and passwords."""
        return _without_users(self.url)


@dataclass(frozen=True)
class Servers:
    """The servers in a URL.

    Attributes:
        urls: one per server, without the login, so that no driver message can show it.
        demand_tls: whether any server requires TLS.
    """

    urls: tuple[str, ...]
    user: str | None
    password: str | None = field(repr=False)
    demand_tls: bool


def parse_servers(url: str) -> Servers:
    """Parse `NATS_URL`.

    Raises:
        ConfigurationError: the URL is invalid; the message contains no password.
    """
    parts = [part.strip() for part in url.split(",") if part.strip()]
    try:
        found = [_parse_server(part) for part in parts]
    except ValueError:
        found = []
    users = {(user, password) for _, user, password in found if user is not None}
    if not found or len(users) > 1:
        wanted = (
            "use one login for all servers" if found else "be nats://host:port or tls://host:port"
        )
        raise ConfigurationError(
            f"NATS_URL={_without_users(url)!r} is not usable: it must {wanted}",
            hint="separate the servers of a cluster with commas",
        )
    user, password = users.pop() if users else (None, None)
    urls = tuple(server for server, _, _ in found)
    return Servers(urls, user, password, any(server.startswith("tls:") for server in urls))


def _without_users(url: str) -> str:
    return _USER_IN_URL.sub(r"\1\2", url)


def _parse_server(text: str) -> tuple[str, str | None, str | None]:
    """Return (URL without login, user, password)."""
    parts = urlsplit(text if "://" in text else f"nats://{text}")
    host = parts.hostname or ""
    if parts.scheme not in _SCHEMES or not host or parts.path.strip("/") or " " in host:
        raise ValueError
    shown_host = f"[{host}]" if ":" in host else host
    server = f"{parts.scheme}://{shown_host}:{parts.port or _DEFAULT_PORT}"
    if not parts.username:
        return server, None, None
    return server, unquote(parts.username), unquote(parts.password) if parts.password else None
