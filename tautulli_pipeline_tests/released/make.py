"""Makes the data directory of version 0.1.0 that `released` contains.

Run it with the Python of an installed version 0.1.0, on Linux:

    python make.py v0.1.0.tar.xz

The import of the last plays is killed halfway: the first partitions are on the stream and have
receipts, and nothing of them is stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path

import nats
import psutil

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.stream.server import EmbeddedServer

PLAYS, LATER_PLAYS, BATCH = 300, 200, 25
TABLES = ("session_history", "session_history_metadata", "session_history_media_info")
CLI = [sys.executable, "-m", "tautulli_pipeline"]


def event(number: int, **fields: object) -> bytes:
    body = {
        "schema_version": 1,
        "event_id": f"plex-{number}",
        "source": "plex",
        "server_id": "default",
        "user_id": 7,
        "username": "ann",
        "media_type": "movie",
        "title": f"Film {number}",
        "rating_key": str(90_000 + number),
        "machine_id": "m1",
        "started_at": f"2024-01-01T10:00:{number:02d}Z",
        "raw": {"email": "ann@example.org", "authToken": "s3cret", "kept": number},
    }
    return json.dumps(body | fields).encode()


MESSAGES = [
    event(1),
    event(2),
    event(2, event_id="plex-2b", title="Film 2, told again"),  # a duplicate by rating key
    event(3, started_at="0001-01-01T00:00:00Z", password="s3cret"),  # no time
    b'{"token": "s3cret", "broken',
]


class Maker:
    def __init__(self, folder: Path) -> None:
        self.source = folder / "tautulli.db"
        self.data = folder / "data"
        self.env = os.environ | {
            "PIPELINE_DATA_DIR": str(self.data),
            "IMPORT_BATCH_SIZE": str(BATCH),
        }

    def run(self, *arguments: str) -> dict:
        done = subprocess.run(
            [*CLI, *arguments, "--json"], env=self.env, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    def change(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.source)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def add_other_producers(self) -> None:
        with EmbeddedServer(self.data) as address:
            asyncio.run(self._publish(address))

    async def _publish(self, address) -> None:
        client = await nats.connect(address.url, user=address.user, password=address.password)
        for message in MESSAGES:
            await client.jetstream().publish("playback.plex.movie", message)
        await client.close()

    def edit(self) -> None:
        """Edit titles, number plays again, and break some."""
        title = "UPDATE session_history_metadata SET title = title || ', corrected' WHERE id <= 5"
        # The same plays, under other row numbers.
        again = [
            f"UPDATE {table} SET id = id + 5000 WHERE id BETWEEN 20 AND 29" for table in TABLES
        ]
        broken = "UPDATE session_history_metadata SET title = NULL WHERE id BETWEEN 40 AND 42"
        self.change(title, *again, broken)

    def judge(self) -> None:
        """Confirm one duplicate and restore another one."""
        found = self.run("duplicates", "list", "--limit", "100")
        rows = next(rows for rows in found.values() if isinstance(rows, list))
        numbered = [row for row in rows if row["dedupe_reason"] == "rating_key_user_started"]
        self.run("duplicates", "confirm", numbered[0]["id"])
        self.run("duplicates", "restore", numbered[1]["id"])

    def add_plays(self) -> None:
        """Add plays that were watched later."""
        later = self.source.with_name("later.db")
        make_demo_database(later, PLAYS + LATER_PLAYS)
        with closing(sqlite3.connect(self.source)) as connection, connection:
            connection.execute("ATTACH ? AS later", [str(later)])
            connection.execute(
                "UPDATE later.session_history SET reference_id = reference_id + 9000"
            )
            for table in TABLES:
                connection.execute(f"UPDATE later.{table} SET id = id + 9000")
                connection.execute(
                    f"INSERT INTO {table} SELECT * FROM later.{table} ORDER BY id DESC "
                    f"LIMIT {LATER_PLAYS}"
                )
        with closing(sqlite3.connect(self.source)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")

    def begin_and_kill(self) -> None:
        """Start an import, and kill it when some of its partitions are published."""
        earlier = set(self.data.glob("receipts/*/*"))
        importer = psutil.Popen(
            [*CLI, "import", str(self.source)],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not set(self.data.glob("receipts/*/*")) - earlier:
            time.sleep(0.0005)
        consumers = [
            child for child in importer.children(recursive=True) if "consum" in str(child.cmdline())
        ]
        for process in (*consumers, importer):
            process.send_signal(signal.SIGKILL)
        importer.wait()
        # The stream server ends with its last user.
        while any(str(self.data) in " ".join(cmdline) for cmdline in command_lines()):
            time.sleep(0.1)


def command_lines() -> list[list[str]]:
    return [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="released-") as name:
        maker = Maker(Path(name))
        make_demo_database(maker.source, PLAYS)
        maker.run("import", str(maker.source))
        maker.add_other_producers()
        maker.edit()
        maker.run("import", str(maker.source))
        maker.judge()
        maker.add_plays()
        maker.begin_and_kill()
        (Path(name) / "folder").write_text(name)
        with tarfile.open(target, "w:xz", preset=9) as archive:
            for part in ("data", "tautulli.db", "folder"):
                archive.add(Path(name) / part, arcname=part)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
