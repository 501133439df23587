"""A web server that answers like the API of a running Tautulli, from a real database."""

from __future__ import annotations

import json
import sqlite3
import ssl
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "0123456789abcdef0123456789abcdef"
NEWEST = "SELECT id FROM session_history ORDER BY id DESC LIMIT 1"
# Answers the request itself; otherwise the usual answer follows.
Fault = "Callable[[_Handler, str], bool]"


@dataclass
class Running:
    """A running server.

    Attributes:
        root: the path below which the API is.
        fault: called with the handler and the command of each request; a true answer means that
            it has answered.
        asked: the commands that were asked, in order.
        headers: the headers of the last request.
    """

    database: Path
    root: str = ""
    fault: Callable[[BaseHTTPRequestHandler, str], Any] = lambda _handler, _command: False
    asked: list[str] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{self.root}"

    def downloads(self) -> int:
        return self.asked.count("download_database")


class _Handler(BaseHTTPRequestHandler):
    running: Running

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - as in the base class
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        command = asked.get("cmd", "")
        self.running.asked.append(command)
        if self.running.fault(self, command):
            return
        if parts.path != f"{self.running.root}/api/v2":
            send(self, 404, b"<html>not found</html>", "text/html")
        elif asked.get("apikey") != KEY:
            send_error(self, 401, "Invalid apikey")
        elif command == "get_history":
            assert (asked["grouping"], asked["include_activity"], asked["length"]) == (
                *("0", "0"),
                "1",
            )
            send_json(self, 200, "success", self._history())
        elif command == "download_database":
            with self.running.database.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                begin(self, 200, "application/octet-stream", size)
                while chunk := file.read(1 << 16):
                    self.wfile.write(chunk)
        else:
            send_error(self, 400, f"Unknown command: {command}")

    def _history(self) -> dict[str, Any]:
        with closing(sqlite3.connect(self.running.database)) as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM session_history").fetchall()
            rows = [{"row_id": row_id} for (row_id,) in connection.execute(NEWEST)]
        return {"recordsTotal": count, "recordsFiltered": count, "data": rows, "draw": 1}


def begin(handler: BaseHTTPRequestHandler, status: int, kind: str, size: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(size))
    handler.end_headers()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> bool:
    begin(handler, status, kind, len(body))
    handler.wfile.write(body)
    return True


def send_json(handler: BaseHTTPRequestHandler, status: int, result: str, data: Any) -> bool:
    answer = {"response": {"result": result, "message": None, "data": data}}
    return send(handler, status, json.dumps(answer).encode(), "application/json")


def send_error(handler: BaseHTTPRequestHandler, status: int, message: str) -> bool:
    answer = {"response": {"result": "error", "message": message, "data": {}}}
    return send(handler, status, json.dumps(answer).encode(), "application/json")


def redirect(handler: BaseHTTPRequestHandler, location: str) -> bool:
    handler.send_response(302)
    handler.send_header("Location", location)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True


@contextmanager
def serving_tautulli(
    database: Path, root: str = "", certificate: Path | None = None
) -> Iterator[Running]:
    """Serve a database over the API, over TLS if there is a file with a key and certificate."""
    running = Running(database, root)
    handler = type("Handler", (_Handler,), {"running": running})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients hang up
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        running.scheme = "https"
    running.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
