"""An external JetStream server that tests start, kill, freeze and administer."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from nats.js import JetStreamContext

STREAM = "MEDIA_EVENTS"


@dataclass
class ExternalServer:
    """A server on its own port, which keeps its store across restarts."""

    folder: Path
    configuration: str = ""
    jetstream: bool = True
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        store = f'jetstream {{ store_dir: "{self.folder}" }}' if self.jetstream else ""
        self._file = self.folder / "server.conf"
        self._file.write_text(
            f'host: "127.0.0.1"\nport: {self.port}\n{store}\n{self.configuration}\n'
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
        self._process = subprocess.Popen([binary, "-c", self._file], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, request: Callable[[JetStreamContext], Awaitable[Any]]) -> Any:
        """Send an administrator's request and return the answer."""

        async def asking() -> Any:
            client = await nats.connect(self.url)
            try:
                return await request(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(asking())

    def make_stream(self, **config: Any) -> None:
        standard = {"name": STREAM, "subjects": ["playback.>"]}
        self.ask(lambda jetstream: jetstream.add_stream(StreamConfig(**standard | config)))

    def delete_stream(self) -> None:
        async def delete(jetstream: JetStreamContext) -> None:
            with suppress(NotFoundError):
                await jetstream.delete_stream(STREAM)

        self.ask(delete)

    def state(self) -> Any:
        return self.ask(lambda jetstream: jetstream.stream_info(STREAM)).state


@contextmanager
def external_server(
    folder: Path, configuration: str = "", *, jetstream: bool = True
) -> Iterator[ExternalServer]:
    """Run a server and kill it when the context closes."""
    server = ExternalServer(folder, configuration, jetstream)
    server.start()
    try:
        yield server
    finally:
        server.kill()
