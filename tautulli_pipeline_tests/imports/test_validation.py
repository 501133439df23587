from __future__ import annotations

import os
import re
import socket
import sqlite3
import time
from contextlib import closing

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.imports.validation import validate
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline.warehouse import schema
from tautulli_pipeline_tests.command import imported, query
from tautulli_pipeline_tests.eras import make_database, play
from tautulli_pipeline_tests.external_server import external_server
from tautulli_pipeline_tests.holding import held_by_another_process

NOTHING = dict.fromkeys(
    ("event_id", "correlation_key", "rating_key_user_started", "guid_user_started"), 0
)


@pytest.fixture
def findings_of(tmp_path, data_dir):
    def findings_of(database, warehouse=None, **options):
        settings = Settings(
            pipeline_data_dir=data_dir,
            duckdb_path=warehouse,
            nats_url=os.environ.get("NATS_URL"),
        )
        with open_source(database, settings.layout.snapshots) as source:
            return validate(source, settings, **options)

    return findings_of


def content_of(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def mixed_plays():
    """Return plays: one is logged twice, one three times, and four are invalid."""
    plays = [play(i) for i in range(1, 8)]
    plays += [play(20, rating_key=101, started=plays[0].history["started"])]
    plays += [play(i, rating_key=102, started=plays[1].history["started"]) for i in (21, 22)]
    plays += [play(30, started=0), play(31, user_id=""), play(32, title=""), play(33, user_id="x")]
    return plays


def test_everything_in_a_database_is_reported(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    more = [play(50, media_type="track", user_id=0), play(51, media_type="Odd.Type", live=1)]
    make_database(path, plays=[*mixed_plays(), *more], version="v2.13.4")
    findings = findings_of(path)
    assert findings.facts() == {
        "source": str(path),
        "tautulli_version": "v2.13.4",
        "missing_columns": [],
        "total_records": 16,
        "first_started_at": "2023-11-15T01:00:00Z",
        "last_started_at": "2023-11-20T19:53:20Z",
        "users": 2,
        "media_types": {"movie": 14, "odd_type": 1, "track": 1},
        "live": 1,
        "new": 9,
        "duplicates": NOTHING | {"rating_key_user_started": 3},
        "rejected": 4,
        "rejected_reasons": {
            "missing start": 1,
            "missing title": 1,
            "missing user_id": 1,
            "user_id is not a 32-bit integer": 1,
        },
        "warehouse": {
            "path": str(tmp_path / "data" / "playback.duckdb"),
            "compared": True,
            "reason": "there is no table yet",
        },
        "event_limit": {
            "bytes": 8_388_346,
            "set_by": "the pipeline",
            "default_because": "the embedded stream server is not running",
        },
    }


def test_a_validation_neither_leaves_nor_changes_files(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=mixed_plays())
    before = content_of(tmp_path)
    during = []
    findings_of(path, on_read=lambda _done, _total: during.append(content_of(tmp_path)))
    assert content_of(tmp_path) == before
    assert any("snapshot-" in str(p) for seen in during for p in seen)


def test_an_interrupted_validation_leaves_no_files(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=mixed_plays())
    before = content_of(tmp_path)

    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        findings_of(path, on_read=stop)
    assert content_of(tmp_path) == before


def test_a_database_without_plays_has_no_dates(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    make_database(path)
    facts = findings_of(path).facts()
    assert (facts["total_records"], facts["new"]) == (0, 0)
    assert (facts["first_started_at"], facts["last_started_at"]) == (None, None)
    assert (facts["users"], facts["media_types"], facts["rejected_reasons"]) == (0, {}, {})


def test_early_years_are_written_with_four_digits(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1, started=-62_000_000_000, history={"stopped": 0})])
    assert findings_of(path).facts()["first_started_at"] == "0005-04-19T09:46:40Z"


def test_a_foreign_file_is_refused_and_nothing_is_created(tmp_path, findings_of):
    path = tmp_path / "foreign.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (id INTEGER PRIMARY KEY)")
    with pytest.raises(SourceError, match="no table session_history"):
        findings_of(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["foreign.db"]


def test_plays_are_validated_in_the_order_of_an_import(tmp_path, findings_of):
    """Ids below 1 and beyond ten digits come last: 5 is new, the other two are duplicates of it."""
    path = tmp_path / "tautulli.db"
    same_item = play(-5, rating_key=1, started=1_700_000_000, history={"session_key": "a"})
    first = play(5, rating_key=1, started=1_700_000_000, history={"session_key": "b"})
    same_event = play(10**10, rating_key=2, started=1_700_000_000, history={"session_key": "b"})
    make_database(
        path,
        plays=[same_item, first, same_event],
        extra_columns={"session_history": [("session_key", "TEXT")]},
    )
    findings = findings_of(path)
    assert (findings.new, findings.last_row_id) == (1, 10**10)
    assert findings.duplicates == NOTHING | {"event_id": 1, "rating_key_user_started": 1}


def test_plays_with_any_id_are_read(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    ids = [-(2**63), -5, 0, 1, 9_999_999_999, 10_000_000_000, 2**63 - 1]
    make_database(path, plays=[play(i, started=1_700_000_000, rating_key=9) for i in ids])
    findings = findings_of(path)
    assert (findings.total_records, findings.new) == (7, 1)
    assert findings.duplicates == NOTHING | {"rating_key_user_started": 6}
    assert findings.last_row_id == 2**63 - 1


def test_plays_with_one_session_key_are_one_event(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    column = {"session_history": [("session_key", "TEXT")]}
    plays = [play(i, started=1_700_000_000, history={"session_key": "a"}) for i in (1, 2)]
    make_database(path, plays=plays, extra_columns=column)
    assert findings_of(path).duplicates == NOTHING | {"event_id": 1}


def test_plays_from_many_batches_are_validated_together(tmp_path, findings_of):
    path = tmp_path / "tautulli.db"
    ids = range(1, 4501)
    plays = [play(i, rating_key=i % 3000, title="" if i == 4400 else "Film") for i in ids]
    for one in plays:
        one.history["started"] = 1_700_000_000
    make_database(path, plays=plays)
    findings = findings_of(path)
    assert (findings.total_records, findings.new, findings.rejected) == (4500, 3000, 1)
    assert findings.duplicates == NOTHING | {"rating_key_user_started": 1499}


@pytest.mark.parametrize("copies", [1, 4, 4100])
def test_each_row_is_read_once_even_if_ids_repeat(tmp_path, findings_of, copies):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in (1, 2, 3)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE copied AS SELECT * FROM session_history")
        connection.execute("DROP TABLE session_history")
        connection.execute("ALTER TABLE copied RENAME TO session_history")
        for _ in range(copies - 1):
            connection.execute(
                "INSERT INTO session_history SELECT * FROM session_history WHERE id = 2 LIMIT 1"
            )
    findings = findings_of(path)
    assert (findings.total_records, findings.new) == (2 + copies, 3)
    assert findings.duplicates == NOTHING | {"event_id": copies - 1}


def test_a_table_that_another_process_holds_is_reported_and_not_compared(tmp_path, findings_of):
    path, warehouse = tmp_path / "tautulli.db", tmp_path / "playback.duckdb"
    make_database(path, plays=mixed_plays())
    with held_by_another_process(warehouse) as process_id:
        findings = findings_of(path, warehouse)
    assert findings.warehouse.compared is False
    assert f"process {process_id} " in findings.warehouse.reason
    assert (findings.new, findings.rejected) == (7, 4)


def test_a_table_with_a_pending_log_is_read_without_changing_either(tmp_path, findings_of):
    path, warehouse = tmp_path / "tautulli.db", tmp_path / "w" / "playback.duckdb"
    make_database(path, plays=[play(1)])
    with held_by_another_process(warehouse):
        pass  # killed: its writes are only in the log
    assert warehouse.with_name("playback.duckdb.wal").stat().st_size
    before = content_of(warehouse.parent)
    findings = findings_of(path, warehouse)
    assert (findings.warehouse.compared, findings.warehouse.reason) == (True, "")
    assert content_of(warehouse.parent) == before
    with closing(schema.connect(warehouse, {})) as connection:
        assert connection.sql("FROM playback_events").fetchall() == []


def test_an_import_matches_the_prediction_of_the_validation(tmp_path, data_dir, monkeypatch):
    """Old plays with new ids, plays logged twice, plays without a user, and new plays."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    make_demo_database(old, 60, damaged_rows=10)
    make_demo_database(new, 90, seed=1, started_at=1_500_000_000, damaged_rows=15)
    renumber_into(old, new)
    settings = load_settings()

    def predicted(path):
        with open_source(path, settings.layout.snapshots) as source:
            findings = validate(source, settings)
        return findings, figures(
            findings.total_records,
            findings.new,
            sum(findings.duplicates.values()),
            findings.rejected,
        )

    def done(path):
        summary = imported(path, data_dir=data_dir)
        return figures(
            summary["total_records"],
            summary["imported"],
            sum(summary["duplicates"].values()),
            summary["rejected"],
        )

    for path in (old, new):
        findings, expected = predicted(path)
        assert (expected["duplicates"] > 100) == (path == new)
        assert expected["rejected"]
        assert expected == done(path)
    assert findings.warehouse.compared
    assert predicted(new)[1]["imported"] == 0


def figures(total, imported, duplicates, rejected):
    assert total == imported + duplicates + rejected
    return {"imported": imported, "duplicates": duplicates, "rejected": rejected}


def renumber_into(old, new):
    """Add the plays of `old` with other ids, and half of the new plays a second time."""
    tables = ("session_history", "session_history_metadata", "session_history_media_info")
    with closing(sqlite3.connect(new)) as connection:
        connection.execute("ATTACH ? AS old", (str(old),))
        for table in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            rest = ", ".join(name for name in names if name != "id")
            for source, shift, condition in (
                (f"main.{table}", 5000, "id % 2 = 0 AND id < 5000"),
                (f"old.{table}", 9000, "true"),
            ):
                connection.execute(
                    f"INSERT INTO {table} (id, {rest}) "
                    f"SELECT id + {shift}, {rest} FROM {source} WHERE {condition}"
                )
        connection.commit()


def test_validate_judges_by_the_limit_of_the_stream_and_names_it(
    findings_of, tmp_path, data_dir, monkeypatch
):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(n, summary="s" * 7 * n) for n in range(1, 301)])
    with external_server(tmp_path / "server") as server:
        server.make_stream(max_msg_size=3500)
        monkeypatch.setenv("NATS_URL", server.url)
        findings = findings_of(path)
        summary = imported(path, data_dir=data_dir, NATS_URL=server.url)
    assert findings.limit.set_by == "max_msg_size 3500 of stream MEDIA_EVENTS"
    assert findings.default_because == ""
    assert 0 < findings.rejected < 300
    assert (summary["imported"], summary["rejected"]) == (findings.new, findings.rejected)
    ((largest,), (smallest,)) = (
        query(data_dir, f"SELECT {row} FROM {table}")[0]
        for row, table in (
            ("max(source_row_id)", "playback_events"),
            ("min(source_row_id)", "dead_letters"),
        )
    )
    assert smallest == largest + 1
    # What fits is imported: the headers take up to 260 of the 3,500 bytes.
    ((reason,),) = query(data_dir, "SELECT reason FROM dead_letters ORDER BY source_row_id LIMIT 1")
    (size,) = map(int, re.findall(r"event of (\d+) bytes exceeds the limit of \d+, set by", reason))
    assert 3500 - 280 < size < 3500 - 240


@pytest.mark.parametrize("answering", [True, False])
def test_validate_uses_the_default_limit_if_no_stream_answers_in_time(
    findings_of, tmp_path, monkeypatch, answering
):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    if answering:
        findings = findings_of(path)
        assert findings.default_because == "the embedded stream server is not running"
    else:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, but never answers
            monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{silent.getsockname()[1]}")
            began = time.monotonic()
            findings = findings_of(path)
            assert 2 < time.monotonic() - began < 60
        assert findings.default_because.endswith("did not answer within 2 s")
    assert findings.limit == DEFAULT_MESSAGE_LIMIT
    assert findings.largest_event().startswith("8,388,346 bytes, the default, because ")
    assert (findings.new, findings.rejected) == (1, 0)


def test_validate_asks_a_running_embedded_server(findings_of, tmp_path, data_dir):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    with embedded_server(data_dir):
        findings = findings_of(path)
    assert findings.limit.set_by == "max_payload 8388608 of the stream server"
    assert findings.default_because == ""
