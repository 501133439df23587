"""Refuse requests that a page of another site sends through somebody's browser."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tautulli_pipeline.serving.paths import API, LOGIN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY_VIOLATION: Final = 1008  # RFC 6455, 7.4.1
_FOREIGN_PAGE: Final = "this address does not answer the pages of other sites"
_NO_PAGE: Final = "send the request from a program, or from a page of this address"


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

    def _foreign(self, connection: HTTPConnection) -> Response | None:
        """Return a refusal if the host is not ours, or the request comes from another site."""
        headers = connection.headers
        host = _only(headers.getlist("host"))
        if _host_name(host) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            why = f"this address answers only requests for the hosts {names}"
            return _refuse(connection, 403, why, "add the name to PIPELINE_ALLOWED_HOSTS")
        for origin in headers.getlist("origin"):
            if origin.lower() not in {f"http://{host}", f"https://{host}"}:
                return _refuse(connection, 403, _FOREIGN_PAGE, _NO_PAGE)
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not (
            connection.scope.get("method") == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"  # a link, not a frame
        ):
            return _refuse(connection, 403, _FOREIGN_PAGE, _NO_PAGE)
        return None


def _unsafe(connection: HTTPConnection) -> Response | None:
    """Return a refusal if a foreign page could send this request without permission."""
    method = connection.scope["method"]
    if method in _READING:
        if connection.url.path == "/graphql" and "query" in connection.query_params:
            why = "GraphQL requests must use POST"
            return _refuse(connection, 405, why, "send it as POST", Allow="POST")
        return None
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_login = connection.url.path == LOGIN and kind == "application/x-www-form-urlencoded"
    if kind != "application/json" and not is_login:
        why = "requests that change something must have the content type JSON"
        return _refuse(connection, 415, why, "send the header Content-Type: application/json")
    return None


def _refuse(
    connection: HTTPConnection, status: int, why: str, hint: str, **headers: str
) -> Response:
    """Return an error as JSON for programs, and as text for people."""
    if connection.scope["path"].startswith(f"{API}/"):
        return JSONResponse({"error": why, "hint": hint}, status, headers)
    return PlainTextResponse(f"{why}\n", status_code=status, headers=headers)


def _only(values: list[str]) -> str:
    return values[0].lower() if len(values) == 1 else ""


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # unbalanced brackets
        return ""
