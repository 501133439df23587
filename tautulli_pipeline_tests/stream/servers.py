"""Helpers for stream tests: separate streams on a shared server, and custom servers."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from inspect import isawaitable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.jetstream import JetStream
from tautulli_pipeline.stream.publisher import Outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tautulli_pipeline.stream.server import ServerAddress

_NUMBERS = count(1)


def address_on(server: ServerAddress, **fields: object) -> StreamAddress:
    """Return the address of an unused stream; streams share subjects, so delete it after use."""
    standard: dict[str, object] = {
        "url": server.url,
        "stream": f"TEST_{next(_NUMBERS)}",
        "durable_name": "tautulli-pipeline",
        "duplicate_window_seconds": 120,
        "user": server.user,
        "password": server.password,
    }
    return StreamAddress(**(standard | fields))


async def delete_stream(address: StreamAddress) -> None:
    """Delete all streams, because two streams cannot capture the same subjects."""
    async with connect(address) as stream:
        for info in await stream.context.streams_info():
            await stream.context.delete_stream(info.config.name)


@asynccontextmanager
async def prepared(address: StreamAddress, **options: Any) -> AsyncIterator[JetStream]:
    """Connect, and create the stream and the durable consumer."""
    async with connect(address, **options) as stream:
        await stream.prepare()
        yield stream


def outgoing(number: int, *, payload: bytes = b"", message_id: str = "") -> Outgoing:
    """Return a unique message."""
    headers = {"Nats-Msg-Id": message_id or f"id-{number}", "Import-Id": "import-1"}
    body = payload or json.dumps({"number": number, "title": "Ærø\u2028"}).encode()
    return Outgoing(f"playback.test.{number % 3}", body, headers)


async def messages_on(stream: JetStream) -> list[tuple[int, Outgoing]]:
    """Return the sequence and content of every message on the stream."""
    state = (await stream.context.stream_info(stream.address.stream)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await stream.context.get_msg(stream.address.stream, sequence)
        found.append((sequence, Outgoing(message.subject, message.data, dict(message.headers))))
    return found


async def eventually(condition, seconds: float = 60) -> None:
    """Wait until `condition()`, which may return an awaitable, is true."""
    deadline = time.monotonic() + seconds
    while not (await met if isawaitable(met := condition()) else met):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.02)


async def until_empty(stream: JetStream) -> None:
    """Wait until the stream is empty; acked messages are removed shortly after the ack."""

    async def is_empty():
        return not (await stream.context.stream_info(stream.address.stream)).state.messages

    await eventually(is_empty)


@contextmanager
def nats_server(folder: Path, configuration: str) -> Iterator[str]:
    """Run an external nats-server and yield its URL."""
    folder.mkdir(exist_ok=True)
    config = folder / "server.conf"
    config.write_text(f'host: "127.0.0.1"\nport: -1\nports_file_dir: "{folder}"\n{configuration}\n')
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    with subprocess.Popen([binary, "-c", config], stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while not (ports := list(folder.glob("*.ports"))) or not ports[0].stat().st_size:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield json.loads(ports[0].read_text())["nats"][0]
        finally:
            process.terminate()
