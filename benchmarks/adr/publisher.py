"""The publisher of the algorithm: reads a batch of rows and awaits each publish."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import nats
import orjson
from nats.aio.client import Client
from nats.js import JetStreamContext

from benchmarks.adr.records import SOURCE, open_source, read_batch, to_event
from tautulli_pipeline.stream.server import ServerAddress, embedded_server

STREAM: Final = "MEDIA_EVENTS"
SUBJECTS: Final = "playback.>"


def measure(database: Path, folder: Path) -> dict[str, float]:
    """Return the seconds from the first read to the last commit, and the stored rows."""
    command = [sys.executable, "-m", "benchmarks.adr.consumer", str(folder)]
    with embedded_server(folder) as server, asyncio.Runner() as loop:
        client, stream = loop.run(_connect(server))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as consumer:
            assert consumer.stdin is not None
            assert consumer.stdout is not None
            consumer.stdout.readline()  # the consumer is ready
            begun_at = time.perf_counter()
            last_sequence = loop.run(_publish_all(database, stream))
            consumer.stdin.write(b"%d\n" % last_sequence)
            consumer.stdin.flush()
            stored = int(consumer.stdout.readline())
            seconds = time.perf_counter() - begun_at
        loop.run(client.close())
    return {"seconds": seconds, "stored": stored}


async def _connect(server: ServerAddress) -> tuple[Client, JetStreamContext]:
    """Connect and create the stream."""
    client = await nats.connect(server.url, user=server.user, password=server.password)
    stream = client.jetstream()
    await stream.add_stream(name=STREAM, subjects=[SUBJECTS], duplicate_window=120)
    return client, stream


async def _publish_all(database: Path, stream: JetStreamContext) -> int:
    """Publish every play; return the last sequence."""
    last_id = last_sequence = 0
    with open_source(database) as source:
        while records := read_batch(source, last_id):
            for record in records:
                event = to_event(record)
                subject = f"playback.{SOURCE}.{event['media_type']}"
                headers = {"Nats-Msg-Id": event["id"]}
                acked = await stream.publish(subject, orjson.dumps(event), headers=headers)
                last_sequence = max(last_sequence, acked.seq)
            last_id = int(records[-1]["id"])
    return last_sequence
