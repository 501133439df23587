"""Requests from pages of other sites, sent to a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import threading
from http.client import HTTPConnection
from typing import TYPE_CHECKING, NamedTuple

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tautulli_pipeline.serving.same_origin import SameOrigin
from tautulli_pipeline_tests.command import wait_until
from tautulli_pipeline_tests.served import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

JSON = "application/json"


class Answer(NamedTuple):
    """The parts of an HTTP answer that the tests look at."""

    status: int
    text: str
    headers: dict[str, str]


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {request.url.path}")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    routes = [
        Route("/graphql", page, methods=["GET", "POST"]),
        Route("/", page, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        WebSocketRoute("/graphql", echo),
    ]
    chosen = free_port()
    config = uvicorn.Config(
        SameOrigin(Starlette(routes=routes)), host="127.0.0.1", port=chosen, log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield chosen
    server.should_exit = True
    thread.join()


def ask(port: int, method: str, target: str, headers: list[tuple[str, str]]) -> Answer:
    """Send exactly these headers; `Host` is added only if it is not among them."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    with_host = any(name.lower() == "host" for name, _ in headers)
    connection.putrequest(method, target, skip_host=with_host, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return Answer(answer.status, text, {k.lower(): v for k, v in answer.getheaders()})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
@pytest.mark.parametrize("suffix", ["", ":{port}", ":8000"])  # 8000: an SSH tunnel
def test_own_hosts_and_own_pages_are_answered(port, host, suffix):
    name = host + suffix.format(port=port)
    answer = ask(port, "GET", "/", [("Host", name)])
    assert (answer.status, answer.text) == (200, "GET /")
    own = [("Host", name), ("Origin", f"http://{name}"), ("Content-Type", JSON)]
    assert ask(port, "POST", "/graphql", own).text == "POST /graphql"
    own[-1] = ("Content-Type", "Application/JSON; charset=utf-8")
    assert ask(port, "POST", "/graphql", own).status == 200


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        ["evil.example:{port}"],
        ["127.0.0.1.evil.example"],
        ["localhost.evil.example:{port}"],
        ["evil.example#@127.0.0.1"],
        ["[::1"],
        [""],
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_foreign_host_is_refused(port, hosts, method):
    headers = [("Host", host.format(port=port)) for host in hosts]
    answer = ask(port, method, "/", [*headers, ("Content-Type", JSON)])
    assert (answer.status, answer.text) == (
        403,
        "this address answers only requests for the hosts 127.0.0.1, ::1, localhost\n",
    )


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1",  # another server on this machine
        "http://127.0.0.1:1",
        "http://localhost:{port}",
        "file://",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_foreign_origin_is_refused(port, origin, method):
    headers = [("Origin", origin.format(port=port)), ("Content-Type", JSON)]
    answer = ask(port, method, "/", headers)
    assert (answer.status, answer.text) == (
        403,
        "this address does not answer the pages of other sites\n",
    )


@pytest.mark.parametrize(
    ("headers", "status", "hint"),
    [
        ([], 415, "send the header Content-Type: application/json"),
        ([("Host", "[::1")], 403, "add the name to PIPELINE_ALLOWED_HOSTS"),
        (
            [("Origin", "null")],
            403,
            "send the request from a program, or from a page of this address",
        ),
    ],
)
def test_a_program_gets_a_refusal_as_json(port, headers, status, hint):
    answer = ask(port, "DELETE", "/api/v1/import", headers)
    fault = json.loads(answer.text)
    assert (answer.status, list(fault), fault["hint"]) == (status, ["error", "hint"], hint)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "destination", "status"),
    [
        ("navigate", "document", 200),  # somebody follows a link
        ("navigate", "iframe", 403),
        ("no-cors", "image", 403),
        ("no-cors", "script", 403),
        ("cors", "empty", 403),
    ],
)
def test_other_sites_may_only_link_to_pages(port, site, mode, destination, status):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
    assert ask(port, "GET", "/", list(headers.items())).status == status
    posted = [*headers.items(), ("Content-Type", JSON)]
    assert ask(port, "POST", "/", posted).status == 403


@pytest.mark.parametrize(
    "target", ["/graphql?query={a}", "/graphql?a=1&query=", "/%67raphql?query"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_graphql_is_not_executed_by_get(port, target, method):
    answer = ask(port, method, target, [("Accept", "text/html")])
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_the_page_for_writing_graphql_is_shown(port):
    assert ask(port, "GET", "/graphql", []).text == "GET /graphql"


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/graphql",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_changes_need_the_content_type_json(port, kind, method):
    headers = [] if kind is None else [("Content-Type", kind)]
    assert ask(port, method, "/", headers).status == 415


def test_answers_cannot_be_framed_or_embedded(port):
    headers = ask(port, "GET", "/", []).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_websocket_from_an_own_page_is_accepted(port):
    async def talk() -> str | bytes:
        async with connect(
            f"ws://127.0.0.1:{port}/graphql", origin=f"http://127.0.0.1:{port}"
        ) as socket:
            await socket.send("hello")
            return await socket.recv()

    assert asyncio.run(talk()) == "hello"


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}]
)
def test_a_websocket_from_a_foreign_page_is_refused(port, headers):
    async def talk() -> None:
        name, value = next(iter(headers.items()))
        if name == "Host":
            address = f"ws://{value}:{port}/graphql"
            async with connect(address, host="127.0.0.1", port=port):
                pass
        else:
            async with connect(f"ws://127.0.0.1:{port}/graphql", origin=value):
                pass

    with pytest.raises(InvalidStatus) as caught:
        asyncio.run(talk())
    assert caught.value.response.status_code == 403
