"""The login, on a real HTTP server."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.serving import login
from tautulli_pipeline.serving.web import protected
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.serving.sites import Answer, on_a_server, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.websockets import WebSocket

PASSWORD = "correct höst battery"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PAGE = {"Accept": "text/html"}


async def page(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("inside")


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    file = tmp_path_factory.mktemp("login") / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    routes = [
        Route("/{path:path}", page, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", greet),
    ]
    settings = Settings(pipeline_password_file=file, pipeline_allowed_hosts="nas.local, NAS")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(login, "_PAUSE_AFTER_FAILURE_SECONDS", 0.05)
        with on_a_server(protected(Starlette(routes=routes), settings, "127.0.0.1")) as port:
            yield port


def basic(password: str, user: str = "anna") -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def logged_in(port: int) -> dict[str, str]:
    answer = send(port, "POST", "/login", "password=correct+h%C3%B6st+battery", FORM)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_a_browser_is_sent_to_the_form_and_a_program_gets_an_error(port: int) -> None:
    answer = send(port, "GET", "/runs", headers=PAGE)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    form = send(port, "GET", "/login", headers=PAGE)
    assert (form.status, form.text.count('type="password"')) == (200, 1)
    answer = send(port, "GET", "/api/v1/import/status")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Basic")
    assert answer.json["error"] == "no password or a wrong one"


def test_the_right_password_lets_in(port: int) -> None:
    assert send(port, "GET", "/", headers=basic(PASSWORD)).text == "inside"
    assert send(port, "GET", "/", headers=logged_in(port)).text == "inside"


@pytest.mark.parametrize(
    "headers",
    [
        basic("wrong"),
        basic(""),
        basic(PASSWORD[:-1]),
        {"Authorization": "Basic no-base64"},
        {"Authorization": f"Bearer {PASSWORD.encode().hex()}"},
        {"Cookie": "tautulli_pipeline_session="},
        {"Cookie": "tautulli_pipeline_session=guessed"},
    ],
)
def test_anything_else_does_not(port: int, headers: dict[str, str]) -> None:
    assert send(port, "GET", "/", headers=headers).status == 401


@pytest.mark.parametrize("body", ["password=wrong", "password=", "", "user=anna", "%ff=%ff"])
def test_a_wrong_form_shows_the_form_again(port: int, body: str) -> None:
    answer = send(port, "POST", "/login", body, FORM)
    assert answer.status == 401
    assert "This is not the password." in answer.text
    assert "set-cookie" not in answer.headers


def test_a_form_without_end_is_refused(port: int) -> None:
    assert send(port, "POST", "/login", "x" * 100_000, FORM).status == 413


def test_no_page_of_another_site_can_use_the_cookie(port: int) -> None:
    answer = send(port, "POST", "/login", "password=correct+h%C3%B6st+battery", FORM)
    kept = answer.headers["set-cookie"].lower()
    assert "samesite=strict" in kept
    assert "httponly" in kept
    foreign = FORM | {"Origin": "http://evil.example"}
    assert send(port, "POST", "/login", "password=x", foreign).status == 403


def test_failures_slow_down_guessing(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "_PAUSE_AFTER_FAILURE_SECONDS", 0.4)
    began_at = time.monotonic()
    assert send(port, "GET", "/", headers=basic("wrong")).status == 401
    assert time.monotonic() - began_at >= 0.4


def test_only_the_allowed_hosts_are_answered(port: int) -> None:
    def asked(host: str) -> Answer:
        return send(port, "GET", "/", headers={"Host": host, **basic(PASSWORD)})

    assert [asked(host).status for host in ("nas.local", "nas:3000", "localhost")] == [200] * 3
    assert asked("nas.local.evil.example").status == 403


def test_a_websocket_needs_the_cookie(port: int) -> None:
    async def greeting(headers: dict[str, str]) -> str | bytes:
        url = f"ws://127.0.0.1:{port}/graphql"
        async with connect(url, additional_headers=headers) as socket:
            return await socket.recv()

    assert asyncio.run(greeting(logged_in(port))) == "inside"
    with pytest.raises(InvalidStatus):
        asyncio.run(greeting({}))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff", "not UTF-8 text")],
)
def test_an_unusable_password_file_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        _ = Settings(pipeline_password_file=file).password
    assert message in caught.value.message
    assert str(file) in caught.value.message
