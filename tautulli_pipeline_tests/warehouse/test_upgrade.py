"""A warehouse of version 0.1.0 opens, and nothing in it is lost."""

from __future__ import annotations

import json
import re
import shutil

import duckdb
import pytest

from tautulli_pipeline.errors import StoppedError, WarehouseError, WarehouseVersionError
from tautulli_pipeline.imports.comparison import compare
from tautulli_pipeline.warehouse import schema, upgrade, upgrade_room
from tautulli_pipeline.warehouse.migration_files import migrations
from tautulli_pipeline.warehouse.reading import open_to_read
from tautulli_pipeline.warehouse.schema import connect, require_current
from tautulli_pipeline_tests.warehouse.plays import event, rows, uuid_of

RELEASED = "0003_reviews.sql"
OWN = "tautulli-import"
FIRST = event(
    1,
    source=OWN,
    server_id="default",
    source_row_id=1,
    reference_id=1,
    username="anna",
    section_id=1,
    media_type="movie",
)
SECRET = '{"event_id":"x","token":"s3cret","kept":1}'


def add(connection, table, **cells):
    names = ", ".join(f'"{name}"' for name in cells)
    values = ", ".join(f"${name}" for name in cells)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", cells)


def discard(connection, sequence, content, reason="event_id", **cells):
    add(
        connection,
        "dedupe_audit_log",
        **{
            "id": uuid_of(1000 + sequence),
            "discarded_event_id": content["event_id"],
            "discarded_payload": json.dumps(content),
            "discarded_source": content["source"],
            "discarded_subject": f"playback.{content['source']}.movie",
            "matched_event_id": uuid_of(1),
            "matched_source": OWN,
            "dedupe_layer": "database",
            "dedupe_reason": reason,
            "content_differs": True,
            "stream_id": "S",
            "stream_sequence": sequence,
            "created_at": f"2026-01-01 00:00:{sequence:02d}",
        }
        | cells,
    )


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Return the path of a warehouse as version 0.1.0 left it."""
    path = tmp_path / "playback.duckdb"
    every = migrations()
    monkeypatch.setattr(
        schema, "migrations", lambda: {n: sql for n, sql in every.items() if n <= RELEASED}
    )
    with connect(path, {}) as connection:
        add(
            connection,
            "playback_events",
            **{name: value for name, value in FIRST.items() if name != "event_id"},
            id=uuid_of(1),
            correlation_key="1",
            friendly_name="Anna",
            library_name="Films",
            stream_id="S",
            stream_sequence=1,
            created_at="2026-01-01",
        )
        add(
            connection,
            "playback_events",
            id=uuid_of(2),
            correlation_key="2",
            source="plex",
            server_id="default",
            user_id=7,
            title="Film 2",
            started_at="2024-05-01 00:00:09",
            extra=SECRET,
            stream_id="S",
            stream_sequence=2,
            created_at="2026-01-01",
        )
        changed = FIRST | {"title": "Right", "session_key": "1"}
        discard(connection, 3, changed)
        discard(connection, 4, changed)
        discard(connection, 5, FIRST | {"friendly_name": "Another name"})
        discard(connection, 6, changed | {"title": "Right again"}, status="user_confirmed")
        twin = FIRST | {"event_id": uuid_of(9), "session_key": "9"}
        discard(connection, 7, twin, "rating_key_user_started", content_differs=False)
        plex = event(1, event_id=uuid_of(8), token="s3cret", server_id="default")
        discard(connection, 8, plex, "rating_key_user_started", status="user_restored")
        add(
            connection,
            "dead_letters",
            id=uuid_of(50),
            reason="missing title",
            origin="playback.plex.movie",
            record=SECRET,
            created_at="2026-01-01",
        )
    monkeypatch.undo()
    return path


def test_nothing_is_lost(released):
    with duckdb.connect(str(released), read_only=True) as connection:
        before = {
            name: rows(connection, f"SELECT id FROM {name} ORDER BY id")
            for name in ("playback_events", "dedupe_audit_log", "dead_letters")
        }
    with connect(released, {}) as connection:
        for name, ids in before.items():
            assert rows(connection, f"SELECT id FROM {name} ORDER BY id") == ids
        statuses = "SELECT status, count(*) FROM dedupe_audit_log GROUP BY ALL ORDER BY 1"
        assert rows(connection, statuses) == [
            ("auto_dedupe", 4),
            ("user_confirmed", 1),
            ("user_restored", 1),
        ]


def test_content_that_differed_becomes_revisions(released):
    with connect(released, {}) as connection:
        found = "SELECT id, revision, title, stream_sequence FROM playback_revisions ORDER BY 2"
        # The third duplicate took the first content back; only its names differed from it.
        assert rows(connection, found) == [
            (uuid_of(1), 1, "Right", 3),
            (uuid_of(1), 2, "Film 1", 5),
            (uuid_of(1), 3, "Right again", 6),
        ]


def test_names_servers_groups_and_other_row_numbers_are_known(released):
    with connect(released, {}) as connection:
        assert rows(connection, "FROM users") == [("default", 7, "anna", "Anna")]
        assert rows(connection, "SELECT section_id, name FROM libraries") == [(1, "Films")]
        assert rows(connection, "SELECT server_id, current_id FROM servers") == [
            ("default", "default")
        ]
        aliases = "SELECT event_id, play_id, server_id FROM event_aliases"
        assert rows(connection, aliases) == [(uuid_of(9), uuid_of(1), "default")]
        groups = "SELECT group_started_at = started_at FROM playback_events ORDER BY id"
        assert rows(connection, groups) == [(True,), (None,)]


def test_secrets_of_other_producers_are_removed(released):
    with connect(released, {}) as connection:
        for column, table in (
            ("extra", "playback_events"),
            ("discarded_payload", "dedupe_audit_log"),
            ("record", "dead_letters"),
        ):
            found = f"SELECT count(*) FROM {table} WHERE {column}::VARCHAR LIKE '%s3cret%'"
            assert rows(connection, found) == [(0,)]
        kept = "SELECT record ->> '$.kept' FROM dead_letters"
        assert rows(connection, kept) == [("1",)]


def whole(connection):
    """Return every row of every table, without when the migrations were applied."""
    tables = [name for (name,) in rows(connection, "SHOW TABLES")]
    return {
        name: sorted(map(repr, rows(connection, f"FROM {name}")))
        for name in tables
        if name != "schema_migrations"
    }


@pytest.mark.parametrize("failing", [name for name in migrations() if name > RELEASED])
def test_an_upgrade_that_fails_in_any_migration_is_taken_up(released, failing, monkeypatch):
    every = migrations()
    broken = every | {failing: f"{every[failing]}; SELECT error('interrupted')"}
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    with pytest.raises(duckdb.Error):
        connect(released, {})
    monkeypatch.undo()
    with connect(released, {}) as connection:
        assert rows(connection, "SELECT count(*) FROM playback_revisions") == [(3,)]
        indexes = "SELECT count(*) FROM duckdb_indexes() WHERE index_name LIKE 'idx_playback%'"
        assert rows(connection, indexes) == [(2,)]


def test_an_upgrade_that_is_interrupted_in_any_part_ends_the_same(released, monkeypatch):
    uninterrupted = released.with_name("uninterrupted.duckdb")
    shutil.copy(released, uninterrupted)
    with connect(uninterrupted, {}) as connection:
        expected = whole(connection)
    monkeypatch.setattr(upgrade, "PART_ROWS", 1)
    shown = []

    def interrupted(done, total):
        if (done, total) not in shown:
            shown.append((done, total))
            raise StoppedError("stopped")

    while True:
        try:
            connection = connect(released, {}, interrupted)
        except StoppedError:
            continue
        with connection:
            assert whole(connection) == expected
        break
    # Two plays in one part, then each row of the audit log and of the dead letters.
    assert shown == [(0, 9), *((done, 9) for done in range(2, 10))]


def test_a_warehouse_whose_upgrade_is_not_finished_is_not_read(released):
    def stopped(_done, _total):
        raise StoppedError("stopped")

    with open_to_read(released) as connection:
        assert rows(connection, "SELECT count(*) FROM dedupe_audit_log") == [(6,)]
        with pytest.raises(WarehouseVersionError, match=r"it is of version 0\.1\.0"):
            require_current(connection, released)
    with pytest.raises(StoppedError):
        connect(released, {}, stopped)
    with (
        pytest.raises(WarehouseVersionError, match=r"upgrade from version 0\.1\.0 is not finished"),
        open_to_read(released),
    ):
        pytest.fail("it was opened")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE plays (event_id UUID, correlation_key VARCHAR, rating_key VARCHAR, "
            "user_id INTEGER, started_at TIMESTAMP, guid VARCHAR, reason VARCHAR)"
        )
        _, comparison = compare(connection, released, "default")
    assert not comparison.compared
    assert "is not finished" in comparison.reason
    with connect(released, {}):
        pass
    with open_to_read(released) as connection:
        require_current(connection, released)


def test_what_a_warehouse_of_version_0_1_0_lacks_is_explained(released):
    with (
        pytest.raises(WarehouseVersionError, match=r"it is of version 0\.1\.0"),
        open_to_read(released) as connection,
    ):
        rows(connection, "FROM playback_revisions")


def test_a_part_of_the_audit_log_has_a_limited_size(released, monkeypatch):
    monkeypatch.setattr(upgrade, "_PART_BYTES", 1)
    shown = []
    with connect(released, {}, lambda done, _total: shown.append(done)) as connection:
        assert rows(connection, "SELECT count(*) FROM dedupe_audit_log") == [(6,)]
    assert shown == [0, 2, 3, 4, 5, 6, 7, 8, 9]


def test_an_upgrade_without_room_on_the_disk_is_refused_and_nothing_is_changed(
    released, monkeypatch
):
    before = released.read_bytes()
    usage = shutil.disk_usage(released.parent)
    monkeypatch.setattr(
        upgrade_room.shutil, "disk_usage", lambda _: usage._replace(free=50 * 10**6)
    )
    with pytest.raises(WarehouseError) as caught:
        connect(released, {})
    needed = r"this needs \d+ MB of disk space, and 50 MB are free"
    name = re.escape(str(released))
    assert re.fullmatch(f"cannot upgrade the warehouse {name}: {needed}", caught.value.message)
    assert caught.value.exit_code == 6
    assert released.read_bytes() == before


def test_the_room_for_an_upgrade_grows_with_the_audit_log_and_its_corrections(released):
    def needed(payload_bytes, corrections):
        path = released.with_name("larger.duckdb")
        shutil.copy(released, path)
        with duckdb.connect(str(path)) as connection:
            connection.execute(
                f"""
                INSERT INTO dedupe_audit_log BY NAME
                SELECT a.* REPLACE (uuid() AS id, {corrections} AS content_differs, (
                    SELECT to_json(string_agg(md5(a.id::VARCHAR || n || m), ''))
                    FROM range({payload_bytes // 32}) r(m)
                ) AS discarded_payload)
                FROM (FROM dedupe_audit_log LIMIT 1) a, range(1000) r(n)
                """
            )
        with duckdb.connect(str(path), read_only=True) as connection:
            return upgrade_room.needed_bytes(connection)

    small = needed(32, "false")
    assert needed(6400, "false") - small > 2_000_000
    assert needed(32, "true") - small > 10_000_000


@pytest.mark.parametrize("name", ["0009_later.sql", "0004_early_draft.sql"])
def test_a_newer_or_unreleased_warehouse_is_refused_in_one_line(released, name):
    with duckdb.connect(str(released)) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (?, now()::TIMESTAMP)", [name])
    with pytest.raises(WarehouseError, match="newer or an unreleased version") as caught:
        connect(released, {})
    assert name in caught.value.message
    assert "\n" not in caught.value.message
