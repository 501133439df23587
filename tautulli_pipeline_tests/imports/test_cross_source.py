"""Plays that other producers report too: before, during and after an import."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, Outgoing
from tautulli_pipeline.stream.session import open_publishing
from tautulli_pipeline_tests.cases import DEFAULT_STARTED_AT, make_database, play
from tautulli_pipeline_tests.imports.rounds import Rounds
from tautulli_pipeline_tests.warehouse.plays import event, uuid_of

if TYPE_CHECKING:
    from pathlib import Path

    from tautulli_pipeline.stream.address import StreamAddress

PRODUCERS = ("plex", "tautulli", "jellyfin")
PLAYS, SEEN, LOOK_ALIKES = 50, 30, 10


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "tautulli.db"
    make_database(path, plays=[play(n) for n in range(1, PLAYS + 1)])
    return path


@pytest.fixture
def rounds(address: StreamAddress, source: Path, tmp_path: Path) -> Rounds:
    return Rounds(source, tmp_path, address)


def moment(row_id: int, later: int = 0) -> str:
    seconds = DEFAULT_STARTED_AT + 10_000 * row_id + later
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seen_by_others() -> list[dict[str, Any]]:
    """Return thirty plays of the database, and ten that only look similar."""
    plays = [
        event(
            1000 + row_id,
            source=PRODUCERS[row_id % 3],
            user_id=2_000_001,
            rating_key=str(100 + row_id),
            title=f"Film {row_id}",
            started_at=moment(row_id),
            machine_id="machine-1" if row_id % 2 else f"another name {row_id}",
        )
        for row_id in range(1, SEEN + 1)
    ]
    for number in range(LOOK_ALIKES):
        row_id = SEEN + 1 + number
        other_user = number % 5 != 3
        plays.append(
            event(
                2000 + row_id,
                source=PRODUCERS[number % 3],
                user_id=8 if other_user else 2_000_001,
                session_key=str(row_id),
                rating_key=str(100 + row_id),
                title=f"Film {row_id}",
                started_at=moment(row_id, 0 if other_user else 1),
                machine_id="machine-1",
            )
        )
    return plays


def publish_others(rounds: Rounds) -> None:
    messages = [
        Outgoing(
            f"playback.{seen['source']}.movie",
            json.dumps(seen).encode(),
            {MESSAGE_ID_HEADER: seen["event_id"]},
        )
        for seen in seen_by_others()
    ]
    with open_publishing(rounds.address) as session:
        session.publish(messages).result()


def publish_import(rounds: Rounds) -> None:
    rounds.publish("import-1")


@pytest.mark.parametrize(
    ("apart", "cache_entries"),
    [
        pytest.param(True, 10_000, id="in separate batches"),
        pytest.param(False, 10_000, id="in one batch"),
        pytest.param(False, 0, id="in one batch without a cache"),
    ],
)
@pytest.mark.parametrize("import_first", [True, False])
def test_plays_that_other_producers_reported_are_stored_once_and_similar_plays_are_kept(
    rounds: Rounds, import_first: bool, apart: bool, cache_entries: int
) -> None:
    rounds.cache_entries = cache_entries
    steps = [publish_others, publish_import]
    for step in reversed(steps) if import_first else steps:
        step(rounds)
        if apart:
            rounds.consume()
    rounds.consume()
    stored = "SELECT source, count(*) FROM playback_events GROUP BY ALL ORDER BY 1"
    sources = [seen["source"] for seen in seen_by_others()]
    others = {name: sources[SEEN if import_first else 0 :].count(name) for name in PRODUCERS}
    imported = PLAYS if import_first else PLAYS - SEEN
    assert dict(rounds.query(stored)) == {**others, "tautulli-import": imported}
    totals = rounds.totals("import-1")
    assert (totals["imported"], totals["published"]) == (imported, PLAYS)
    # What Tautulli says of plays that others have reported is newer content.
    assert totals.pop("revised", 0) == (0 if import_first else SEEN)
    assert sum(totals.values()) == 2 * PLAYS
    audited = rounds.query(
        "SELECT discarded_source = 'tautulli-import', matched_source = 'tautulli-import', "
        "count(*), count(DISTINCT matched_event_id) FROM dedupe_audit_log GROUP BY ALL"
    )
    assert audited == [(not import_first, import_first, SEEN, SEEN)]
    kept = {seen["event_id"] for seen in seen_by_others()[SEEN:]}
    table = {str(row_id) for (row_id,) in rounds.query("SELECT id FROM playback_events")}
    assert kept <= table
    assert (uuid_of(1001) in table) is not import_first
