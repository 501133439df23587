"""Odd, secret and hostile messages of other producers on a real stream."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import nats
import pytest

from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import imported, query, run
from tautulli_pipeline_tests.external_server import ExternalServer, external_server
from tautulli_pipeline_tests.warehouse.hostile import hostile_messages

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nats.js import JetStreamContext

ROWS = 30
BASE = {
    "schema_version": 1,
    "source": "plex",
    "user_id": 7,
    "username": "ann",
    "media_type": "movie",
    "title": "T",
    "machine_id": "m1",
    "started_at": "2024-01-01T10:00:00Z",
    "timestamp": "2024-01-01T10:00:00Z",
}
# What a message changes, and how its play is stored or why it is not.
ODD: list[tuple[dict[str, Any], dict[str, Any] | str]] = [
    ({"started_at": "0001-01-01T00:00:00Z"}, 'missing started_at: "0001-01-01T00:00:00Z"'),
    ({"started_at": "2024-01-01T10:00:01.250+01:00"}, {"started_at": "2024-01-01 09:00:01"}),
    (
        {"started_at": 1704103200},
        "started_at is not a time in the years 1-9999: 1704103200",
    ),
    ({"started_at": "2024-01-01 10:00:02"}, {"started_at": "2024-01-01 10:00:02"}),
    ({"started_at": "2024-01-01t10:00:03z"}, {"started_at": "2024-01-01 10:00:03"}),
    ({"started_at": "2024-01-01T10:00:04-00:00"}, {"started_at": "2024-01-01 10:00:04"}),
    ({"user_id": "8"}, {"user_id": 8}),
    ({"user_id": "b3f1c2d4a5"}, 'user_id is not a 32-bit integer: "b3f1c2d4a5"'),
    ({"user_id": 2**40}, f"user_id is not a 32-bit integer: {2**40}"),
    ({"user_id": 7.5}, "user_id is not a 32-bit integer: 7.5"),
    ({"user_id": True}, "user_id is not a 32-bit integer: true"),
    ({"user_id": None}, "missing user_id"),
    ({"stopped_at": "0001-01-01T00:00:00Z"}, {"stopped_at": None}),
    ({"rating_key": 902}, {"rating_key": "902"}),
    ({"title": 1917}, {"title": "1917"}),
    ({"year": "1999", "secure": "true"}, {"year": 1999, "secure": True}),
]
SECRET = {
    "email": "ann@example.org",
    "user_token": "s3cret",
    "user_thumb": "https://x/y?X-Plex-Token=abcdef&size=1",
    "raw_payload": {
        "Account": {"authToken": "tok-1", "id": 5, "Users": [{"Password": "hunter2", "n": 1}]},
        "text": json.dumps({"apikey": "key-1", "kept": True}),
    },
}
SECRETS = ("ann@example.org", "s3cret", "abcdef", "tok-1", "hunter2", "key-1")


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with external_server(tmp_path / "server", "max_payload: 8MB") as started:
        yield started


def publish(server: ExternalServer, messages: Iterable[tuple[str, bytes]]) -> None:
    """Publish (subject, body) messages to a stream on which nothing is lost."""

    async def send(_jetstream: JetStreamContext) -> None:
        client = await nats.connect(server.url, pending_size=64 * 2**20)
        jetstream = client.jetstream(publish_async_max_pending=500)
        try:
            for subject, body in messages:
                await jetstream.publish_async(subject, body)
            await jetstream.publish_async_completed()
        finally:
            await client.close()

    server.make_stream()
    server.ask(send)


def import_after(server: ExternalServer, folder: Path) -> dict[str, Any]:
    make_database(folder / "tautulli.db", plays=[play(n) for n in range(1, ROWS + 1)])
    return imported(folder / "tautulli.db", data_dir=folder / "data", NATS_URL=server.url)


def test_odd_fields_are_stored_or_named_with_their_value(
    server: ExternalServer, tmp_path: Path
) -> None:
    bodies = [
        BASE | {"event_id": f"odd-{n}", "rating_key": f"9{n:03}"} | change
        for n, (change, _) in enumerate(ODD)
    ]
    publish(server, [("playback.plex.movie", json.dumps(body).encode()) for body in bodies])
    assert import_after(server, tmp_path)["imported"] == ROWS
    for n, (_, expected) in enumerate(ODD, 1):
        if isinstance(expected, str):
            sql = "SELECT reason FROM dead_letters WHERE stream_sequence = ?"
            assert query(tmp_path / "data", sql, n) == [(expected,)]
        else:
            names = ", ".join(f"{name}::VARCHAR" for name in expected)
            sql = f"SELECT {names} FROM playback_events WHERE stream_sequence = ?"
            values = [None if v is None else str(v).lower() for v in expected.values()]
            assert query(tmp_path / "data", sql, n) == [tuple(values)]


def test_no_secret_of_a_message_is_stored_anywhere(server: ExternalServer, tmp_path: Path) -> None:
    event = json.dumps(BASE | {"event_id": "a", "rating_key": "1"} | SECRET).encode()
    again = json.dumps(BASE | {"event_id": "b", "rating_key": "1"} | SECRET).encode()
    no_event = json.dumps(SECRET).encode()
    wide = [event.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le")]
    bodies = [event, again, no_event, event[:-30], b"\xff" + event, event * 3000, *wide]
    publish(server, [("playback.plex.movie", body) for body in bodies])
    import_after(server, tmp_path)
    data_dir = tmp_path / "data"
    ((extra,),) = query(data_dir, "SELECT extra::VARCHAR FROM playback_events WHERE title = 'T'")
    assert json.loads(extra) == {
        "event_id": "a",
        "user_thumb": "https://x/y?size=1",
        "raw_payload": {
            "Account": {"id": 5, "Users": [{"n": 1}]},
            "text": json.dumps({"kept": True}),
        },
    }
    stored = query(
        data_dir,
        "SELECT record::VARCHAR FROM dead_letters "
        "UNION ALL SELECT discarded_payload::VARCHAR FROM dedupe_audit_log",
    )
    assert len(stored) == 7
    texts = [text.replace("\\u0000", "") for (text,) in stored]
    assert not [secret for secret in SECRETS for text in texts if secret in text]
    warehouse = (data_dir / "playback.duckdb").read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in warehouse]


# HOSTILE_MESSAGES=33000 with HOSTILE_SHARE=0.91 is the long variant.
COUNT = int(os.environ.get("HOSTILE_MESSAGES", "3000"))
SHARE = float(os.environ.get("HOSTILE_SHARE", "0.3"))


@pytest.mark.slow
def test_every_good_message_among_hostile_ones_is_imported(
    server: ExternalServer, tmp_path: Path
) -> None:
    messages, good = hostile_messages(20_240_101, COUNT, share=SHARE, most_bytes=300_000)
    giants = [b"\xff" * 3_000_000, b"[" * 2_000_000]
    publish(
        server,
        [
            *(("playback.plex.movie", giant) for giant in giants),
            *((subject, body) for _, subject, _, _, body in messages),
        ],
    )
    assert import_after(server, tmp_path)["imported"] == ROWS
    data_dir = tmp_path / "data"
    ((stored,),) = query(
        data_dir,
        "SELECT count(*) FROM playback_events WHERE stream_sequence IN (SELECT unnest(?) + 2)",
        good,
    )
    assert stored == len(good)
    ((ended,),) = query(
        data_dir,
        "SELECT count(DISTINCT stream_sequence) FROM ("
        "SELECT stream_sequence FROM playback_events UNION SELECT stream_sequence FROM dead_letters"
        " UNION SELECT stream_sequence FROM dedupe_audit_log)",
    )
    assert ended == COUNT + len(giants) + ROWS
    listed = run("dead-letters", "list", "--limit", 1000, data_dir=data_dir)
    assert (listed.exit_code, listed.stderr) == (0, "")
