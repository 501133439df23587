"""Ask for a password before anything else is answered."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64decode
from binascii import Error as BadBase64
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tautulli_pipeline.serving.paths import API, LOGIN
from tautulli_pipeline.serving.same_origin import POLICY_VIOLATION

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_COOKIE: Final = "tautulli_pipeline_session"
_SESSION_SECONDS: Final = 30 * 86_400
_MAX_FORM_BYTES: Final = 8192
# For all clients together: a password cannot be guessed by trying many.
_PAUSE_AFTER_FAILURE_SECONDS: Final = 1.0


class Login:
    """ASGI middleware that answers only those who know the password.

    Browsers log in with a form and get a cookie that no other site's page can send. Programs
    send the password in each request, by HTTP basic authentication with any user name.
    Sessions end when the process ends.
    """

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._password = password.encode()
        self._sessions: set[str] = set()
        self._checking = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, answer the login form, or refuse with status 401."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if scope["type"] == "http" and connection.url.path == LOGIN:
            answer = await self._log_in(Request(scope, receive))
            await answer(scope, receive, send)
        elif await self._is_known(connection):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            await _refusal(connection)(scope, receive, send)

    async def _is_known(self, connection: HTTPConnection) -> bool:
        if connection.cookies.get(_COOKIE) in self._sessions:
            return True
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            password = b64decode(given, validate=True).partition(b":")[2]
        except BadBase64:
            return False
        return await self._is_right(password)

    async def _is_right(self, password: bytes) -> bool:
        if secrets.compare_digest(password, self._password):
            return True
        async with self._checking:
            await asyncio.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
        return False

    async def _log_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _form()
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MAX_FORM_BYTES:
                return _form(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        given = parse_qs(body.decode("ascii", "replace")).get("password", [""])
        if not await self._is_right(given[0].encode()):
            return _form(HTTPStatus.UNAUTHORIZED, "This is not the password.")
        session = secrets.token_urlsafe(32)
        self._sessions.add(session)
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            _COOKIE,
            session,
            max_age=_SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def _form(status: HTTPStatus = HTTPStatus.OK, message: str = "") -> Response:
    page = (files("tautulli_pipeline.serving") / "login.html").read_text(encoding="utf-8")
    headers = {"Cache-Control": "no-store"}
    return HTMLResponse(page.replace("{message}", message), status, headers=headers)


def _refusal(connection: HTTPConnection) -> Response:
    is_page = "text/html" in connection.headers.get("accept", "")
    if is_page and connection.scope["method"] == "GET":
        return RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
    fault = {"error": "no password or a wrong one", "hint": f"log in at {LOGIN}"}
    # For programs only: a browser would keep asking for the password.
    headers = {"WWW-Authenticate": "Basic"} if connection.url.path.startswith(API) else None
    return JSONResponse(fault, HTTPStatus.UNAUTHORIZED, headers=headers)
