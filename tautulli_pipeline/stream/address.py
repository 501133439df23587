"""Stream addresses: parsing `NATS_URL` and displaying it without secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tautulli_pipeline.errors import ConfigurationError

_EMBEDDED_HINT: Final = (
    "import again to resume; log/stream-server.log and nats/nats-server.log in the data directory "
    "show what happened to the stream server"
)
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
        private: whether it is the embedded server, which no other program can reach.
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

    def hint(self, external: str) -> str:
        """Return the hint for a server that is unreachable or that refuses a request.

        `external` names settings, which the embedded server does not have.
        """
        return _EMBEDDED_HINT if self.private else external


def parse_servers(url: str) -> tuple[list[str], dict[str, str]]:
    """Return the servers in `NATS_URL` and its login, as options of `Client.connect`.

    The servers are without the login, so that no driver message can show it.

    Raises:
        ConfigurationError: the URL is invalid; the message contains no password.
    """
    parts = [part.strip() for part in url.split(",") if part.strip()]
    try:
        found = [_parse_server(part) for part in parts]
    except ValueError:
        found = []
    logins = {tuple(login.items()) for _, login in found if login}
    if not found or len(logins) > 1:
        wanted = (
            "use one login for all servers" if found else "be nats://host:port or tls://host:port"
        )
        raise ConfigurationError(
            f"NATS_URL={_without_users(url)!r} is not usable: it must {wanted}",
            hint="separate the servers of a cluster with commas",
        )
    return [server for server, _ in found], dict(logins.pop()) if logins else {}


def _without_users(url: str) -> str:
    return _USER_IN_URL.sub(r"\1\2", url)


def _parse_server(text: str) -> tuple[str, dict[str, str]]:
    """Return the server without its login, and the login."""
    parts = urlsplit(text if "://" in text else f"nats://{text}")
    host = parts.hostname or ""
    if parts.scheme not in _SCHEMES or not host or parts.path.strip("/") or " " in host:
        raise ValueError
    shown_host = f"[{host}]" if ":" in host else host
    server = f"{parts.scheme}://{shown_host}:{parts.port or _DEFAULT_PORT}"
    if not parts.username:
        return server, {}
    if not parts.password:
        return server, {"token": unquote(parts.username)}
    return server, {"user": unquote(parts.username), "password": unquote(parts.password)}
