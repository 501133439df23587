"""An HTTP server that stands in for Dagster's webserver."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def webserver(status: int, body: object, *, length: int | None = None):
    """Run a server with a fixed answer; yield its URL and the list of received requests."""
    asked = []
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Content-Type"], question))
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def started(run_id: str) -> dict:
    """Return the answer after starting an import."""
    return {"status": "running", "run_id": run_id}
