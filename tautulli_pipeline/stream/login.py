"""Logging in to the server: TLS, authentication, and explaining refusals."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError
from nats.errors import SecureConnWantedError

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.stream.address import StreamAddress, parse_servers
from tautulli_pipeline.stream.credentials import read_credentials
from tautulli_pipeline.stream.wire import WireClient


def login_options(address: StreamAddress) -> dict[str, Any]:
    """Return the server, TLS and login options for `Client.connect`.

    Raises:
        ConfigurationError: a variable or the file it points to is not usable.
    """
    servers, login = parse_servers(address.url)
    tls = {"tls": _ssl_context(address.ca_file)} if address.ca_file is not None else {}
    return {"servers": servers, **tls, **(_authentication(address) or login)}


def _authentication(address: StreamAddress) -> dict[str, Any]:
    if address.password is not None and address.user is None:
        raise ConfigurationError(
            "NATS_PASSWORD is set but NATS_USER is not", hint="set both, or neither"
        )
    if address.credentials_file is not None:
        credentials = read_credentials(address.credentials_file)
        return {"user_jwt_cb": lambda: credentials.jwt, "signature_cb": credentials.sign}
    if address.user is not None:
        return {"user": address.user, "password": address.password or ""}
    return {"token": address.token} if address.token is not None else {}


def _ssl_context(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ValueError) as error:
        cause = "it contains no certificate"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            cause = error.strerror or str(error)
        raise ConfigurationError(
            f"NATS_TLS_CA={str(ca_file)!r} is not usable: {cause}",
            hint="set NATS_TLS_CA to the PEM file of the CA that signed the server's certificate",
        ) from error


class TlsClient(WireClient):
    """A client that requires TLS; nats-py would fall back to plain text."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise SecureConnWantedError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


def make_client(options: Mapping[str, Any]) -> WireClient:
    """Return a client that requires TLS if the options ask for it."""
    tls = "tls" in options or any(server.startswith("tls:") for server in options["servers"])
    return TlsClient() if tls else WireClient()


def refusal(errors: Iterable[Exception]) -> str:
    """Return why the server or TLS refuses the connection; '' if the server is unreachable."""
    for error in errors:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {error.reason or error}"
        if isinstance(error, SecureConnWantedError):
            return "it does not offer TLS"
        if isinstance(error, NatsError) and "auth" in str(error).lower():
            return f"it refused the login: {str(error).removeprefix('nats: ')}"
    return ""


def connection_hint(address: StreamAddress, cause: str) -> str:
    """Return the hint for a failed connection."""
    return address.hint(_external_hint(address, cause))


def _external_hint(address: StreamAddress, cause: str) -> str:
    if "certificate" in cause:
        return "check the host in NATS_URL, and set NATS_TLS_CA to the CA of the certificate"
    if "TLS" in cause:
        return "check NATS_URL and NATS_TLS_CA against the server's TLS settings"
    if address.credentials_file is not None:
        return "check NATS_URL and NATS_CREDS"
    if address.user is not None:
        return "check NATS_URL, NATS_USER and NATS_PASSWORD"
    if address.token is not None:
        return "check NATS_URL and NATS_TOKEN"
    return "check NATS_URL and the NATS_* credentials, or unset NATS_URL to use the embedded server"
