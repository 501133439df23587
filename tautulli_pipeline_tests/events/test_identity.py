"""Compares the keys with plain Python written from the contract, not from the SQL."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.identity import quote_identifier, quote_literal, uuid_of_name

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
PLAY = pa.schema(
    [
        ("session_key", pa.string()),
        ("started", pa.int64()),
        ("user_id", pa.int32()),
        ("server_id", pa.string()),
        ("rating_key", pa.string()),
        ("title", pa.string()),
        ("machine_id", pa.string()),
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
row_ids = st.integers(-(2**63), 2**63 - 1).map(str)
starts = st.integers(FIRST_SECOND, LAST_SECOND) | st.sampled_from([FIRST_SECOND, -1, LAST_SECOND])
user_ids = st.integers(-(2**31), 2**31 - 1)
plays = st.fixed_dictionaries(
    {
        "session_key": row_ids | texts | st.sampled_from(["1:2", "🎬", "'", '"', "a:b:c"]),
        "started": starts,
        "user_id": user_ids,
        "server_id": texts,
        "rating_key": st.none() | texts | row_ids,
        "title": texts | st.sampled_from(['O\'Brien: "The" 🎬', ":", "\x00"]),
        "machine_id": st.none() | texts,
    }
)


def uuid_shaped(first_16_bytes):
    raw = bytearray(first_16_bytes)
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def bucket(seconds):
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    return moment.isoformat()


def expected(play):
    named = f"tautulli-import:{play['session_key']}:{play['started']}:{play['user_id']}"
    title_hash = hashlib.sha256(play["title"].encode()).digest()[:8].hex()
    item = play["rating_key"] if play["rating_key"] is not None else title_hash
    machine = play["machine_id"] if play["machine_id"] is not None else "unknown"
    cross_source = (
        f"{play['server_id']}:{play['user_id']}:{item}:{machine}:{bucket(play['started'])}"
    )
    return (
        uuid_shaped(hashlib.sha256(named.encode()).digest()[:16]),
        f"tautulli-import:{cross_source}:{play['session_key']}",
        cross_source,
        str(uuid.uuid5(uuid.NAMESPACE_URL, play["title"])),
    )


def by_sql(batch):
    cross_source = identity.cross_source_key(
        server_id="server_id",
        user_id="user_id",
        rating_key="rating_key",
        title="title",
        machine_id="machine_id",
        started_at="make_timestamp(started * 1000000)",
    )
    correlation = identity.correlation_key("'tautulli-import'", cross_source, "session_key")
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("plays", pa.Table.from_pylist(batch, schema=PLAY))
        return connection.execute(
            f"SELECT {identity.event_id('session_key', 'started', 'user_id')}, {correlation}, "
            f"{cross_source}, {identity.uuid_of_name('title')} FROM plays"
        ).fetchall()


@settings(max_examples=60, deadline=None)
@given(st.lists(plays, min_size=1, max_size=40))
def test_every_key_of_a_batch_follows_the_contract(batch):
    assert by_sql(batch) == [expected(play) for play in batch]


def test_known_keys_are_stable():
    play = {"session_key": "17", "started": 1_700_000_000, "user_id": 0, "server_id": "home"}
    play |= {"rating_key": None, "title": "Nobody's Ship", "machine_id": None}
    assert by_sql([play]) == [
        (
            "1dd7dfe9-21fd-5f58-93aa-e18daa5948f8",
            "tautulli-import:home:0:c6b03c6cc1f15385:unknown:2023-11-14T22:13:20:17",
            "home:0:c6b03c6cc1f15385:unknown:2023-11-14T22:13:20",
            "1268ee3c-6056-5f01-8ec7-37a3aaa63d25",
        )
    ]


names = st.tuples(row_ids | st.from_regex(r"[0-9:-]{1,6}", fullmatch=True), starts, user_ids)


@settings(max_examples=60, deadline=None)
@given(st.sets(names, min_size=2, max_size=60))
@example({("1", 0, 23), ("1", 1, 23), ("1", 0, 22), ("11", 0, 23)})
def test_plays_of_different_sessions_seconds_or_users_have_different_event_ids(some):
    # A session key may contain colons: it must not be confused with the start.
    filler = {"server_id": "s", "rating_key": "1", "title": "t", "machine_id": None}
    batch = [{"session_key": k, "started": s, "user_id": u, **filler} for k, s, u in some]
    assert len({row[0] for row in by_sql(batch)}) == len(some)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_keys_do_not_depend_on_the_time_zone(zone):
    batch = [
        {"session_key": "1:2", "started": second, "user_id": -1, "server_id": "s"}
        | {"rating_key": None, "title": "é🎬", "machine_id": "m:1"}
        for second in (FIRST_SECOND, -1, 0, 1_699_165_800, 1_700_000_000, LAST_SECOND)
    ]
    code = (
        "import json, sys; from tautulli_pipeline_tests.events.test_identity import by_sql; "
        "print(json.dumps(by_sql(json.loads(sys.argv[1]))))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(batch)],
        env=os.environ | {"TZ": zone},
        check=True,
        capture_output=True,
        text=True,
    )
    assert [tuple(row) for row in json.loads(ran.stdout)] == [expected(play) for play in batch]


ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(max_examples=50, deadline=None)
@given(ANY_TEXT)
@example("it's")
@example("'; DROP TABLE plays; --")
@example("back\\slash\\'")
def test_a_quoted_literal_is_the_text_in_duckdb_and_sqlite(duck, text):
    sql = f"SELECT {quote_literal(text)}"
    assert duck.execute(sql).fetchone() == (text,)
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute(sql).fetchone() == (text,)


@settings(max_examples=50, deadline=None)
@given(ANY_TEXT.filter(bool))
@example('say "hi"')
@example('x" FROM y; --')
def test_a_quoted_identifier_is_one_name_in_duckdb_and_sqlite(duck, name):
    sql = f"SELECT 1 AS {quote_identifier(name)}"
    assert duck.execute(sql).description[0][0] == name
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute(sql).description[0][0] == name


@settings(max_examples=50, deadline=None)
@given(ANY_TEXT, st.uuids())
def test_a_name_based_uuid_follows_the_standard(duck, name, namespace):
    here = uuid_of_name("$name")
    elsewhere = uuid_of_name("$name", namespace.hex)
    assert duck.execute(f"SELECT {here}, {elsewhere}", {"name": name}).fetchone() == (
        str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        str(uuid.uuid5(namespace, name)),
    )
