"""Likely duplicates of a live producer that knows the server by another id."""

from __future__ import annotations

from contextlib import closing

from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.command import run
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, writer


def test_plays_of_two_server_ids_are_listed_with_both_ids(data_dir):
    plays = []
    for number in range(10):
        item = {"rating_key": str(number), "title": f"Film {number}"}
        for server, source, seconds in (("home", "tautulli-import", 0), ("9f3c", "plex", 2)):
            play = event(
                2 * number + (source == "plex"),
                source=source,
                server_id=server,
                started_at=f"2024-05-{number + 1:02d}T20:00:0{seconds}Z",
                **item,
            )
            plays.append(message(len(plays) + 1, play))
    data_dir.mkdir()
    with closing(connect(data_dir / "playback.duckdb", {})) as warehouse:
        writer(warehouse).write(batch(plays))
    found = run("duplicates", "list", "--near", "--json", data_dir=data_dir).json["near_matches"]
    assert len(found) == 10
    assert {(row["server_id"], row["second_server_id"]) for row in found} == {("home", "9f3c")}
    assert not any(row["same_server"] for row in found)
    listed = run("duplicates", "list", "--near", data_dir=data_dir)
    assert listed.exit_code == 0
    assert " ".join(listed.stdout.split()).count("server ids home, 9f3c") == 10
