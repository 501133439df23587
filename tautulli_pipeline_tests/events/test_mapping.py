from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tautulli_pipeline.events.columns import COPIED
from tautulli_pipeline_tests import eras
from tautulli_pipeline_tests.eras import make_database, play
from tautulli_pipeline_tests.events.mapped import TABLES, cells, events, mapped_rows


def rejected(tmp_path, plays, **options):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=plays)
    return mapped_rows(path, **options)


def without(part, number=1, **changes):
    made = play(number, **changes)
    setattr(made, part, None)
    return made


YEAR_10000 = 253_402_300_800


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (play(1, started=None), "missing start"),
        (play(1, started=0), "missing start"),
        (play(1, started=""), "missing start"),
        (play(1, started="soon"), "start is not a time in the years 1-9999: soon"),
        (play(1, started=YEAR_10000), f"start is not a time in the years 1-9999: {YEAR_10000}"),
        (play(1, user_id=None), "missing user_id"),
        (play(1, user_id="", user="mira"), "missing user_id"),
        (play(1, user_id=2**31), f"user_id is not a 32-bit integer: {2**31}"),
        (play(1, user_id="mira"), "user_id is not a 32-bit integer: mira"),
        (play(1, user_id=1.5), "user_id is not a 32-bit integer: 1.5"),
        (play(1, user_id="0x10"), "user_id is not a 32-bit integer: 0x10"),
        (play(1, title=None), "missing title"),
        (play(1, title=""), "missing title"),
        (without("metadata"), "missing title"),
    ],
)
def test_a_rejected_row_has_a_reason_and_its_raw_record(tmp_path, made, reason):
    (row,) = rejected(tmp_path, [made])
    assert (row["source_row_id"], row["payload"], row["reason"]) == (1, None, reason)
    stored = cells(tmp_path / "tautulli.db")[1]
    for table in TABLES:
        texts = {n: None if v is None else str(v) for n, v in stored.get(table, {}).items()}
        assert row["record"][table] == (texts or dict.fromkeys(row["record"][table]))


def test_an_event_that_is_too_large_is_rejected_with_its_size(tmp_path):
    plays = [play(1, summary="🎬" * 700), play(2)]
    size = len(rejected(tmp_path, plays)[0]["payload"].encode())
    path = tmp_path / "tautulli.db"
    fits = [row["reason"] for row in mapped_rows(path, max_payload_bytes=size)]
    over = [row["reason"] for row in mapped_rows(path, max_payload_bytes=size - 1)]
    assert fits == [None, None]
    reason = f"event of {size} bytes exceeds the limit of {size - 1}, set by the stream"
    assert over == [reason, None]


def test_the_last_token_of_a_subject_has_at_most_32_characters(tmp_path):
    types = ["movie", "m" * 32, "A long Summary. " * 300, "🎬" * 33, "é."]
    make_database(
        tmp_path / "tautulli.db",
        plays=[play(n, media_type=media_type) for n, media_type in enumerate(types, 1)],
    )
    rows = mapped_rows(tmp_path / "tautulli.db")
    assert [row["subject"].removeprefix("playback.tautulli-import.") for row in rows] == [
        *("movie", "m" * 32, "a_long_summary__a_long_summary__", "_" * 32, "__"),
    ]
    assert [row["event"]["media_type"] for row in rows] == types


@pytest.mark.parametrize(
    ("cells", "start"),
    [
        ({"started": "x" * 5000}, "start is not a time in the years 1-9999: xxx"),
        ({"user_id": "x" * 5000}, "user_id is not a 32-bit integer: xxx"),
    ],
)
def test_a_reason_shows_only_the_beginning_of_a_cell(tmp_path, cells, start):
    (row,) = rejected(tmp_path, [play(1, **cells)])
    assert row["reason"].startswith(start)
    assert len(row["reason"]) < 200


def test_the_record_of_a_large_row_has_the_beginnings_and_lengths_of_its_long_cells(tmp_path):
    long = "é\u0001" * 40_000
    (row,) = rejected(tmp_path, [play(1, title="", summary=long, tagline="short")])
    record = row["record"]
    metadata = record["session_history_metadata"]
    assert record["cut"] == {"session_history_metadata.summary": len(long)}
    assert 2**12 < len(metadata["summary"]) < 2**15
    assert long.startswith(metadata["summary"])
    assert metadata["tagline"] == "short"
    assert len(json.dumps(record)) < 2**17


def test_a_record_is_bounded_even_if_every_cell_is_long(tmp_path):
    texts = dict.fromkeys(("user", "player", "summary", "actors", "container"), "\x01" * 10**6)
    (row,) = rejected(tmp_path, [play(1, title="", **texts)])
    assert len(json.dumps(row["record"])) < 2**19
    assert set(row["record"]["cut"].values()) == {10**6}


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        (play(1, user_id=0, user="Local"), set()),
        (play(1, user_id=-(2**31)), {"friendly_name"}),
        (play(1, ip_address=None, machine_id=None), {"ip_address", "machine_id"}),
        (play(1, rating_key=None), {"rating_key"}),
        (play(1, stopped=0), {"stopped_at"}),
        (play(1, started=-1), set()),
        (without("media_info"), {"container", "video_codec", "transcode_decision", "bitrate"}),
    ],
)
def test_a_row_without_optional_cells_is_imported(tmp_path, made, missing):
    path, whole = tmp_path / "tautulli.db", tmp_path / "whole.db"
    make_database(path, plays=[made])
    make_database(whole, plays=[play(1)])
    (event,), (full,) = events(path), events(whole)
    assert missing <= full.keys() - event.keys()
    assert "" not in event.values()
    assert None not in event.values()


def test_unknown_columns_and_differing_duplicates_are_kept_in_extra(tmp_path):
    path = tmp_path / "tautulli.db"
    weird = 'so "odd"\\ 🎬\n'
    columns = {TABLES[0]: [("mood", "TEXT"), ("Score", "REAL")], TABLES[2]: [("hdr", "INTEGER")]}
    made = play(
        1,
        history={"mood": "happy\x01", "Score": 2.5, "rating_key": 7, "section_id": None},
        metadata={"rating_key": 8},
        media_info={"rating_key": 7, "hdr": "", "duration": 1},
    )
    columns[TABLES[0]].append((weird.replace('"', '""'), "TEXT"))
    made.history[weird.replace('"', '""')] = "x"
    make_database(path, plays=[made], extra_columns=columns)
    (event,) = events(path)
    assert event["rating_key"] == "7"
    assert event["media_duration_ms"] == 7_200_000
    assert event["extra"] == {
        "mood": "happy\x01",
        "Score": "2.5",
        weird: "x",
        "session_history_metadata.rating_key": "8",
        "session_history_media_info.duration": "1",
    }


def test_columns_of_other_tools_are_mapped(tmp_path):
    path = tmp_path / "tautulli.db"
    names = ("session_key", "percent_complete", "friendly_name", "library_name")
    columns = [(name, "TEXT") for name in names]
    given = dict(zip(names, ("k:1", "41", "Grandma", "Attic"), strict=True))
    plays = [play(1, history=given), play(2), play(3, history={"percent_complete": "41.7 %"})]
    make_database(path, plays=plays, extra_columns={TABLES[0]: columns})
    first, second, third = events(path)
    assert {n: str(first[n]) for n in names} == given
    named = f"tautulli-import:k:1:{eras.play(1).history['started']}:2000001"
    assert (
        first["event_id"].replace("-", "")[:12] == hashlib.sha256(named.encode()).hexdigest()[:12]
    )
    assert [second[n] for n in names] == ["2", 50, "Mira", "Movies"]
    assert (third["percent_complete"], third["extra"]) == (50, {"percent_complete": "41.7 %"})
    assert "extra" not in first


def test_a_value_that_does_not_fit_its_column_is_kept_in_extra(tmp_path):
    path = tmp_path / "tautulli.db"
    odd = {
        "year": "MMI",
        "width": 1919.5,
        "audio_channels": str(2**31),
        "last_viewed_at": 2**63 - 1,
        "updated_at": "99999999999999999999",
        "secure": 2,
        "relayed": "yes",
        "stopped": "later",
        "paused_counter": "-",
    }
    make_database(path, plays=[play(1, **odd)])
    (event,) = events(path)
    assert event["last_viewed_at"] == odd.pop("last_viewed_at")
    kept = event["extra"]
    assert float(kept.pop("updated_at")) == 1e20
    assert kept == {n: str(v) for n, v in odd.items() if n != "updated_at"}
    assert event.keys().isdisjoint({*odd} - {"width"})
    assert event["play_duration"] == 0


@pytest.mark.parametrize(
    ("location", "type_"), [("lan", "lan"), ("wan", "wan"), ("cellular", "wan"), (None, "wan")]
)
def test_every_play_is_local_or_remote(tmp_path, location, type_):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1, location=location)])
    (event,) = events(path)
    assert (event["location_type"], event.get("location")) == (type_, location)


def test_computed_values_use_the_right_cells(tmp_path):
    path = tmp_path / "tautulli.db"
    film = play(1, started=100, stopped=4000, paused_counter=40, duration=7_999_999)
    make_database(path, plays=[film, play(2, duration="", metadata={"live": 1})])
    first, second = events(path)
    names = ("media_duration", "media_duration_ms", "play_duration", "percent_complete")
    assert [first[n] for n in names] == [7999, 7_999_999, 3860, 45]
    assert [second.get(n) for n in names] == [None, None, 3600, 100]
    assert (first["watched_status"], second["watched_status"]) == (0.5, 1)
    moments = ("timestamp", "started_at", "stopped_at")
    assert [first[n][-9:] for n in moments] == ["00:01:40Z", "00:01:40Z", "01:06:40Z"]


NASTY = "a\x01\x1f\"\\/\b\n\t\u2028 \\ud800 \\u0000 \x7f 🎬 é ' {}[] \ufffe"


def test_any_text_reaches_the_event_as_valid_json(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1, title=NASTY, player=NASTY, media_type="a.b > *C")])
    (row,) = mapped_rows(path)
    assert (row["event"]["title"], row["event"]["player"]) == (NASTY, NASTY)
    assert row["event"]["media_type"] == "a.b > *C"
    assert row["subject"] == "playback.tautulli-import.a_b____c"


def test_a_nul_does_not_end_a_text(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1, title="a\x00b"), play(2, title="plain")])
    assert [event["title"] for event in events(path)] == ["a\x00b", "plain"]


def test_numbers_are_integers_and_flags_are_booleans(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    (row,) = mapped_rows(path)
    typed = {name: type(value) for name, value in row["event"].items()}
    whole = {c.name for c in COPIED if c.type in {"BIGINT", "INTEGER"}} & typed.keys()
    assert {typed[n] for n in {*whole, "play_duration", "media_duration"}} == {int}
    assert (typed["secure"], typed["relayed"], typed["rating_key"]) == (bool, bool, str)
    assert row["payload"].startswith('{"schema_version":1,"event_id":"')


def payloads(path):
    return [row["payload"] for row in mapped_rows(Path(path))]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_the_payload_does_not_depend_on_the_time_zone(tmp_path, zone):
    path = tmp_path / "tautulli.db"
    eras.make_era_database(path, "v2.17.2", 200)
    code = (
        "import json, sys; from tautulli_pipeline_tests.events.test_mapping import payloads; "
        "print(json.dumps(payloads(sys.argv[1])))"
    )
    environment = os.environ | {"TZ": zone}
    command = [sys.executable, "-c", code, str(path)]
    elsewhere = subprocess.run(command, env=environment, check=True, capture_output=True)
    # On slow machines, DuckDB also prints its progress with `python -c`.
    output = elsewhere.stdout.splitlines()[-1]
    assert payloads(path) == json.loads(output) == payloads(path)


def test_names_come_from_the_newest_row_of_users_and_libraries(tmp_path):
    path = tmp_path / "tautulli.db"
    libraries = [
        {"server_id": "old", "section_id": 1, "section_name": "Old films"},
        {"server_id": "new", "section_id": 1, "section_name": "Films"},
    ]
    users = [
        {"user_id": 1, "username": "nameless"},
        {"user_id": 2, "username": "blank", "friendly_name": "  "},
        {"user_id": 3, "username": "mira", "friendly_name": "Mira"},
    ]
    plays = [play(n, user_id=n, user="then") for n in (1, 2, 3, 4)]
    make_database(path, plays=plays, users=users, libraries=libraries)
    found = events(path)
    assert [e.get("friendly_name") for e in found] == ["nameless", "blank", "Mira", None]
    assert {(e["username"], e["library_name"]) for e in found} == {("then", "Films")}


def test_the_section_comes_from_history_or_metadata(tmp_path):
    path = tmp_path / "tautulli.db"
    plays = [
        play(1, history={"section_id": ""}, metadata={"section_id": 2}),
        play(2, history={"section_id": 1}, metadata={"section_id": 2}),
    ]
    columns = {TABLES[1]: [("section_id", "INTEGER")]}
    make_database(path, plays=plays, extra_columns=columns)
    first, second = events(path)
    assert (first["section_id"], first["library_name"], "extra" in first) == (2, "TV Shows", False)
    assert (second["section_id"], second["library_name"]) == (1, "Movies")
    assert second["extra"] == {"session_history_metadata.section_id": "2"}


def test_a_file_without_users_and_libraries_is_mapped(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)], drop_tables=["users", "library_sections"])
    (event,) = events(path)
    assert event["username"] == "mira"
    assert event.keys().isdisjoint({"friendly_name", "library_name"})
