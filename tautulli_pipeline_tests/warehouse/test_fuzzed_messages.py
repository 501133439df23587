"""Each of 100,000 malformed messages ends up in exactly one table."""

from __future__ import annotations

import json
import random
from datetime import datetime

import pyarrow as pa
import pytest

from tautulli_pipeline.events.columns import EVENT_FIELDS
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.decoder import compared
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline.warehouse.screening import BEGINNING_BYTES, MAX_FOREIGN_BYTES
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer
from tautulli_pipeline_tests.warehouse.plays import event, memory_warehouse

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 2)
BATCH_SIZE = 2000

RAW_VALUES = (
    *("null", "true", "false", "0", "-0", "-1", "1.5", "1e308", "1e309", "-1e400", "5e-324"),
    *("1E+2", "2147483648", "9223372036854775808", "9" * 40, "9" * 400, "0.1" + "0" * 300),
    *("[]", "{}", '""', '" "', '"0"', '"nan"', '"\\u0000"', '"a\\u0000b"', '"\\ud800"'),
    *('"\\ud83c\\udfac"', '"\\udfac\\ud83c"', '"\\uFFFF"', '"\U0010ffff"', '"\u202e\u0301\u200d"'),
    *('"infinity"', '"-infinity"', '"epoch"', '"now"', '"9999-12-31T23:59:60Z"', '"24:00"'),
    *('"0000-00-00T00:00:00Z"', '"2024-02-30T00:00:00Z"', '"294247-01-10T04:00:54Z"'),
    *('"2024-05-01T00:00:00+99:99"', '"1969-12-31T23:59:59Z"', '"-4713-01-01T00:00:00Z"'),
    *('{"a":{"a":{"a":[1,[2,[3]]]}}}', "[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60),
    *('{"":1,"":2}', "'x'", "NaN", "-Infinity", "undefined", "0x1", "01", "+1", "1.", ".5", "tru"),
)
NAMES = (
    *(*EVENT_FIELDS, "schema_version", "extra", "mood", "", " ", "a.b", "$", "$.x", "*", "[0]"),
    *("\x00", '"', "\\", "id", "position", "sequence", "subject", "body", "é" * 90, "Event_ID"),
)
SUBJECT_PARTS = (
    "plex",
    "tautulli-import",
    "tautulli",
    "emby",
    "",
    "x.y",
    "a b'\"",
    "é🎬",
    "%",
    "*",
)
HEADERS = (None, "", "x", "'", "I-1", "é🎬", "0" * 500, "\x01", "a:b:c", "null")


def whole(dice, number):
    """Return a play as JSON text, with some fields replaced, repeated or renamed."""
    fields = [(json.dumps(k), json.dumps(v)) for k, v in event(number).items()]
    for _ in range(dice.choice((0, 1, 1, 2, 5))):
        name = json.dumps(dice.choice(NAMES), ensure_ascii=dice.random() < 0.5)
        fields.insert(dice.randrange(len(fields) + 1), (name, dice.choice(RAW_VALUES)))
    if dice.random() < 0.2:
        dice.shuffle(fields)
    colon = dice.choice((":", " : ", ":\n"))
    return "{" + ",".join(f"{name}{colon}{value}" for name, value in fields) + "}"


def damaged_fields(dice, number):
    return whole(dice, number).encode()


def damaged_bytes(dice, number):
    """Return a play that is cut, repeated, reversed, or has bytes inserted."""
    raw = whole(dice, number).encode()
    at = dice.randrange(len(raw))
    return dice.choice(
        (
            raw[:at],
            raw[at:],
            raw[:at] + dice.randbytes(3) + raw[at:],
            raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :],
            raw[:at] + b"\x00" + raw[at:],
            raw + raw,
            raw[::-1],
            b"\xef\xbb\xbf" + raw,
            raw.decode().encode("utf-16"),
            raw + b"\x00" * 5,
        )
    )


def not_objects(dice, _number):
    """Return JSON that is not an object, deeply nested JSON, or no JSON."""
    depth = dice.choice((1, 3, 30, 100)) if dice.random() < 0.98 else dice.choice((1001, 20_000))
    return dice.choice(
        (
            dice.choice(RAW_VALUES).encode(),
            b"",
            b"\x00",
            b" " * 50,
            dice.randbytes(dice.randrange(200)),
            b"[" * depth,
            b"[" * depth + b"]" * depth,
            b'{"event_id":' * depth + b"1" + b"}" * depth,
            b'{"extra":' * depth + b"1" + b"}" * depth,
            b'"' + b"x" * depth + b'"',
        )
    )


def repeated(dice, number):
    """Return a play that shares keys with earlier ones."""
    earlier = number - dice.randrange(400)
    fields = {
        name: value
        for name, value in event(max(earlier, 1)).items()
        if name in {"event_id", "started_at", "user_id", "title"} or dice.random() < 0.8
    }
    if dice.random() < 0.5:
        fields["event_id"] = dice.choice((event(number)["event_id"], f"no uuid {number}"))
    return json.dumps(fields | {"source": dice.choice(("plex", "emby"))}).encode()


def mixed(dice, number):
    kinds = (damaged_fields, damaged_bytes, not_objects, repeated)
    return dice.choice(kinds)(dice, number)


# 100,000 in total; plays of other producers take the longest.
COUNTS = {
    damaged_fields: 10_000,
    damaged_bytes: 30_000,
    not_objects: 36_000,
    repeated: 10_000,
    mixed: 14_000,
}


def batches(make, seed):
    dice = random.Random(seed)
    for first in range(1, COUNTS[make] + 1, BATCH_SIZE):
        numbers = range(first, first + BATCH_SIZE)
        yield [
            (
                number,
                f"playback.{dice.choice(SUBJECT_PARTS)}.{dice.choice(SUBJECT_PARTS)}",
                dice.choice(HEADERS),
                dice.choice(HEADERS),
                dice.choice(HEADERS),
                make(dice, number),
            )
            for number in numbers
        ]


def table_of(rows):
    columns = zip(*rows, strict=True)
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, MESSAGES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=MESSAGES)


VERSIONS = ("playback_events", "playback_revisions")
BYTES = " UNION ".join(f"SELECT payload_hash FROM {table}" for table in VERSIONS)
CONTENTS = " UNION ".join(
    [
        *(f"SELECT {compared('t')} FROM {table} t" for table in VERSIONS),
        "SELECT content_hash FROM dedupe_audit_log",
    ]
)


def not_repeated(connection, rows):
    """Return the sequences of messages that say what is neither stored nor in the audit log."""
    contents = {*connection.execute(CONTENTS).fetchall()}
    found = []
    for row in rows:
        if connection.execute(f"SELECT hash(?::BLOB) IN ({BYTES})", [row[-1]]).fetchone()[0]:
            continue
        with memory_warehouse() as alone:
            Writer(alone, DedupCache(1e9, 5000), "S", lambda: NOW).write(table_of([row]))
            said = alone.execute(CONTENTS).fetchall()
        if not said or not contents.issuperset(said):
            found.append(row[0])
    return found


@pytest.mark.parametrize("make", COUNTS, ids=lambda make: make.__name__)
def test_each_fuzzed_message_ends_up_in_exactly_one_table(tmp_path, make):
    connection = connect(tmp_path / "playback.duckdb", {})
    writer = Writer(connection, DedupCache(1e9, 5000), "S", lambda: NOW)
    sent = {}
    for number, rows in enumerate(batches(make, seed=20_231_114)):
        sent |= {row[0]: row for row in rows}
        writer.write(table_of(rows))
        if number % 4 == 0:
            writer.write(table_of(rows[::9]))
    ended = [
        sequence
        for name in ("playback_events", "dead_letters", "dedupe_audit_log")
        for (sequence,) in connection.execute(f"SELECT stream_sequence FROM {name}").fetchall()
    ]
    revised = connection.execute("SELECT stream_sequence FROM playback_revisions").fetchall()
    assert len(ended) == len({*ended})
    missing = sent.keys() - {*ended} - {sequence for (sequence,) in revised}
    assert not_repeated(connection, [sent[sequence] for sequence in missing]) == []
    connection.close()


def test_messages_over_the_bound_do_not_block_others(tmp_path):
    connection = connect(tmp_path / "playback.duckdb", {})
    writer = Writer(connection, DedupCache(1e9, 5000), "S", lambda: NOW)
    sizes = {3: 7 * 2**20, 5: 2**19, 6: 5 * 2**20}
    rows = [
        (
            n,
            "playback.plex.movie",
            None,
            f"m{n}",
            None,
            as_json(event(n, summary="x" * sizes.get(n, 1))),
        )
        for n in range(1, 10)
    ]
    writer.write(table_of(rows))
    letters = connection.execute(
        "SELECT stream_sequence, reason, record::VARCHAR FROM dead_letters ORDER BY ALL"
    ).fetchall()
    bodies = {row[0]: row[5].decode() for row in rows}
    assert letters == [
        (
            n,
            f"message of {len(bodies[n])} bytes exceeds the limit of {MAX_FOREIGN_BYTES}",
            json.dumps(
                {"beginning": bodies[n][:BEGINNING_BYTES], "size_bytes": len(bodies[n])},
                separators=(",", ":"),
            ),
        )
        for n in (3, 6)
    ]
    stored = connection.execute(
        "SELECT stream_sequence, strlen(summary) FROM playback_events ORDER BY ALL"
    ).fetchall()
    assert stored == [(n, sizes.get(n, 1)) for n in (1, 2, 4, 5, 7, 8, 9)]
    connection.close()


def as_json(fields):
    return json.dumps(fields).encode()
