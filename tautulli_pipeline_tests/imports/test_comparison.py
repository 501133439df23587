from __future__ import annotations

import uuid
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports.comparison import compare
from tautulli_pipeline.warehouse import schema
from tautulli_pipeline.warehouse.matching import SAME_PLAY

KEYS = tuple(SAME_PLAY)
NOWHERE = Path("no folder") / "none.duckdb"
START = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
ROWS = pa.schema(
    [
        ("event_id", pa.string()),
        ("correlation_key", pa.string()),
        ("rating_key", pa.string()),
        ("user_id", pa.int32()),
        ("started_at", pa.timestamp("us")),
        ("guid", pa.string()),
        ("reason", pa.string()),
    ]
)
# Few values, so that keys collide often and in chains.
PLAYS = st.tuples(
    *(st.integers(0, 6), st.integers(0, 6), st.none() | st.integers(0, 3), st.integers(0, 1)),
    st.none() | st.integers(0, 2),
)
# A play, whether it was restored, and its server.
STORED = st.tuples(PLAYS, st.booleans(), st.sampled_from(["default", "default", "other"]))


def row_of(play, reason=None):
    event, correlation, rating_key, second, guid = play
    return {
        "event_id": str(uuid.UUID(int=event)),
        "correlation_key": f"c:{correlation}",
        "rating_key": None if rating_key is None else str(rating_key),
        "user_id": 7,
        "started_at": START.replace(second=second),
        "guid": None if guid is None else f"plex://movie/{guid}",
        "reason": reason,
    }


def keys_of(play):
    event, correlation, rating_key, second, guid = play
    named = None if rating_key is None else (rating_key, second)
    known = None if guid is None else (guid, second)
    return dict(zip(KEYS, (event, correlation, named, known), strict=True))


def expected(plays, stored):
    """The reference, row by row: a play is new if none of its keys was stored before.

    Another server shares only guids.
    """
    taken = {key: set() for key in KEYS}
    for play, restored, server in stored:
        for key, value in keys_of(play).items():
            if restored:
                shared = key == "event_id" and server == "default"
            else:
                shared = key == "guid_user_started" or server == "default"
            if value is not None and shared:
                taken[key].add(value)
    verdicts = Counter(dict.fromkeys(("new", *KEYS), 0))
    for play in plays:
        keys = {key: value for key, value in keys_of(play).items() if value is not None}
        verdict = next((key for key, value in keys.items() if value in taken[key]), "new")
        verdicts[verdict] += 1
        if verdict == "new":
            for key, value in keys.items():
                taken[key].add(value)
    return verdicts


def store(path, stored):
    with closing(schema.connect(path, {})) as connection:
        for play, restored, server in stored:
            row = row_of(play)
            key = row["correlation_key"]
            correlation = key if server == "default" else f"{server}:{key}"
            connection.execute(
                "INSERT INTO playback_events (id, session_key, started_at, user_id, rating_key, "
                "guid, title, source, server_id, correlation_key, stream_id, stream_sequence, "
                "created_at, restored_at) VALUES "
                "(?, 's', ?, ?, ?, ?, 'Film', 'plex', ?, ?, 'x', 1, ?, ?)",
                [
                    *(row["event_id"], row["started_at"], row["user_id"], row["rating_key"]),
                    *(row["guid"], server, correlation),
                    *(START, START if restored else None),
                ],
            )


def compared(warehouse, *batches):
    """Return the counts for plays in these batches, and the comparison."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("rows", ROWS.empty_table())
        connection.execute(
            "CREATE TABLE plays AS SELECT * REPLACE (event_id::UUID AS event_id) FROM rows"
        )
        for batch in batches:
            connection.register("rows", pa.Table.from_pylist(batch, schema=ROWS))
            connection.execute("INSERT INTO plays FROM rows")
        return compare(connection, warehouse, "default")


def storable(stored):
    """Return the plays that the unique keys of the table accept, in order."""
    kept = []
    for play, restored, server in stored:
        same_event = any(play[0] == other[0] for other, _, _ in kept)
        beside = [(other, done, "default") for other, done, name in kept if name == server]
        if not same_event and (restored or expected([play], beside)["new"]):
            kept.append((play, restored, server))
    return kept


@settings(max_examples=60, deadline=None)
@given(st.lists(PLAYS, max_size=25), st.integers(1, 25))
def test_each_play_is_classified_as_if_earlier_plays_were_stored(plays, batch_size):
    rows = [row_of(play) for play in plays]
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    counts, _ = compared(NOWHERE, *batches)
    assert counts == expected(plays, [])


@settings(max_examples=12, deadline=None)
@given(
    plays=st.lists(PLAYS, max_size=20),
    stored=st.lists(STORED, max_size=6).map(storable),
)
def test_stored_plays_match_by_every_key_but_restored_rows_and_other_servers_by_one(
    tmp_path_factory, plays, stored
):
    path = tmp_path_factory.mktemp("warehouse") / "playback.duckdb"
    store(path, stored)
    counts, comparison = compared(path, [row_of(play) for play in plays])
    assert (comparison.compared, comparison.reason) == (True, "")
    assert counts == expected(plays, stored)


def test_a_rejected_play_does_not_make_another_play_a_duplicate(tmp_path):
    play = (1, 1, 1, 0, None)
    rows = [row_of(play, reason="missing title"), row_of(play)]
    counts, _ = compared(tmp_path / "none.duckdb", rows)
    assert (counts["new"], sum(counts.values())) == (1, 1)


def test_a_file_that_is_not_a_warehouse_is_not_compared_and_is_left_unchanged(tmp_path):
    foreign, text = tmp_path / "foreign.duckdb", tmp_path / "text.duckdb"
    duckdb.connect(foreign).close()
    text.write_text("not a database\n" * 500)
    before = foreign.read_bytes(), text.read_bytes()
    for path, reason in ((foreign, "no table playback_events"), (text, "not a valid DuckDB")):
        counts, comparison = compared(path, [row_of((1, 1, 1, 0, None))])
        assert not comparison.compared
        assert reason in comparison.reason
        assert counts["new"] == 1
    assert (foreign.read_bytes(), text.read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["foreign.duckdb", "text.duckdb"]
