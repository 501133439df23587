"""Random messages never abort the batch, get lost or count twice."""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
import sys
import uuid

import pytest

from tautulli_pipeline.events.columns import EVENT_FIELDS
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.warehouse.messages import EVENT_ID, foreign, write


def _scalar(dice):
    letters = string.printable + '🎬é"\\\x00\u2028'
    return dice.choice(
        [
            *(None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**63, 2**64, 10**30, "", "0", "x:y|z"),
            *("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.5+05:30", "infinity", EVENT_ID),
            "".join(dice.choices(letters, k=dice.randrange(12))),
            dice.randrange(2**40),
        ]
    )


def _value(dice, depth=2):
    kind = dice.randrange(8) if depth else 0
    if kind == 6:
        return [_value(dice, depth - 1) for _ in range(dice.randrange(4))]
    if kind == 7:
        return {str(_scalar(dice)): _value(dice, depth - 1) for _ in range(dice.randrange(4))}
    return _scalar(dice)


def _fuzzed(dice, number):
    """Return a valid event with some fields replaced and sometimes damaged bytes."""
    body = foreign(event_id=str(uuid.UUID(int=number)), title=f"t{number}", user_id=number)
    for name in dice.choices(
        [*EVENT_FIELDS, "mood", "a.b", '"', "$", "\x00", "*"], k=dice.randrange(6)
    ):
        body[name] = _value(dice)
    raw = json.dumps(body, ensure_ascii=dice.random() < 0.5).encode()
    if dice.random() < 0.15:
        at = dice.randrange(len(raw))
        damage = (raw[:at], raw[:at] + dice.randbytes(2) + raw[at:], raw + raw, raw[at:])
        raw = dice.choice(damage)
    source = dice.choice(["plex", "jellyfin", "emby", "tautulli", "tautulli-import", "a b'\"", ""])
    return f"playback.{source}.{dice.choice(['movie', '', 'x.y'])}", raw


def fuzz_outcomes(folder, count):
    """Write `count` random messages; return their sequences by table, and a digest."""
    dice = random.Random(20_231_114)
    connection = connect(folder / "fuzz.duckdb", {})
    for first in range(1, count, 500):
        batch = [_fuzzed(dice, n) for n in range(first, first + 500)]
        write(connection, *batch, first_sequence=first)
        write(connection, *batch[:70], first_sequence=first)
    sequences = {
        name: [
            row[0]
            for row in connection.execute(
                f"SELECT stream_sequence FROM {name} ORDER BY 1"
            ).fetchall()
        ]
        for name in ("playback_events", "dead_letters", "dedupe_audit_log")
    }
    digest = connection.execute(
        "SELECT bit_xor(hash(id, correlation_key, started_at, stopped_at, extra::VARCHAR)) "
        "FROM playback_events"
    ).fetchone()[0]
    connection.close()
    return {**sequences, "digest": str(digest)}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return fuzz_outcomes(tmp_path_factory.mktemp("fuzz"), 2000)


def test_each_of_2000_random_messages_ends_up_in_exactly_one_table(outcomes):
    ended = outcomes["playback_events"] + outcomes["dead_letters"] + outcomes["dedupe_audit_log"]
    assert sorted(ended) == list(range(1, 2001))
    assert len(outcomes["playback_events"]) > 800
    assert len(outcomes["dead_letters"]) > 300


@pytest.mark.parametrize(
    "zone", [pytest.param("Pacific/Kiritimati", marks=pytest.mark.slow), "America/St_Johns"]
)
def test_the_time_zone_of_the_machine_changes_nothing(tmp_path, zone):
    code = (
        "import json, pathlib, sys; "
        "from tautulli_pipeline_tests.warehouse.test_decoder_fuzz import fuzz_outcomes; "
        "print(json.dumps(fuzz_outcomes(pathlib.Path(sys.argv[1]), 500)))"
    )
    elsewhere = tmp_path / "elsewhere"
    command = [sys.executable, "-c", code, str(elsewhere)]
    ran = subprocess.run(command, env=os.environ | {"TZ": zone}, check=True, capture_output=True)
    assert json.loads(ran.stdout) == fuzz_outcomes(tmp_path, 500)
