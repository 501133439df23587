"""Refuse requests that a page of another site sends through somebody's browser."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

from tautulli_pipeline.serving.paths import LOGIN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY_VIOLATION: Final = 1008  # RFC 6455, 7.4.1


class SameOrigin:
    """ASGI middleware that answers only its own host names and its own pages.

    A browser sends requests on behalf of every page that it shows, also to loopback addresses.
    The `Host` header reveals a foreign name that resolves to this machine (DNS rebinding). The
    `Origin` and `Sec-Fetch-Site` headers reveal a foreign page. Requests that change something
    need the content type JSON, which a foreign page cannot send without asking first (all but the
    login form), and GraphQL is not executed by GET.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = LOOPBACK_NAMES) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with status 403, 405 or 415."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        refusal = self._foreign(connection)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        refusal = refusal or _unsafe(connection)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Frame-Options"] = "DENY"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, send_protected)

    def _foreign(self, connection: HTTPConnection) -> PlainTextResponse | None:
        """Return a refusal if the host is not ours, or the request comes from another site."""
        headers = connection.headers
        host = _only(headers.getlist("host"))
        if _host_name(host) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            return _refuse(403, f"this address answers only requests for the hosts {names}")
        for origin in headers.getlist("origin"):
            if origin.lower() not in {f"http://{host}", f"https://{host}"}:
                return _refuse(403, "this address does not answer the pages of other sites")
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not (
            connection.scope.get("method") == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"  # a link, not a frame
        ):
            return _refuse(403, "this address does not answer the pages of other sites")
        return None


def _unsafe(connection: HTTPConnection) -> PlainTextResponse | None:
    """Return a refusal if a foreign page could send this request without permission."""
    method = connection.scope["method"]
    if method in _READING:
        if connection.url.path == "/graphql" and "query" in connection.query_params:
            return _refuse(405, "GraphQL requests must use POST", Allow="POST")
        return None
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_login = connection.url.path == LOGIN and kind == "application/x-www-form-urlencoded"
    if kind != "application/json" and not is_login:
        return _refuse(415, "requests that change something must have the content type JSON")
    return None


def _refuse(status: int, why: str, **headers: str) -> PlainTextResponse:
    return PlainTextResponse(f"{why}\n", status_code=status, headers=headers)


def _only(values: list[str]) -> str:
    return values[0].lower() if len(values) == 1 else ""


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # unbalanced brackets
        return ""
