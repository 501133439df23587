"""Applications on a real HTTP server, and requests to them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn

from tautulli_pipeline_tests.command import wait_until
from tautulli_pipeline_tests.served import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """The parts of an HTTP answer that the tests look at."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@contextmanager
def on_a_server(app: ASGIApp) -> Iterator[int]:
    """Serve an application; yield its port."""
    chosen = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=chosen, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield chosen
    finally:
        server.should_exit = True
        thread.join()


def send(
    port: int, method: str, path: str, body: str | None = None, headers: dict[str, str] = JSON
) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        lowered = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, answer.read().decode(), lowered)
    finally:
        connection.close()
