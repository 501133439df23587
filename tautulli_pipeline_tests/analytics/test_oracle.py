"""The tables agree with Tautulli's queries on databases with odd rows, of any version."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline_tests import eras
from tautulli_pipeline_tests.analytics.oracle import Oracle, compare
from tautulli_pipeline_tests.analytics.warehouses import built, opened
from tautulli_pipeline_tests.cases import Play, make_database, play

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

USERS = (
    {"user_id": 0, "username": "Local"},
    *({"user_id": 100 + n, "username": f"user {n}"} for n in range(6)),
)
# Days when clocks are set forward or back somewhere, or when a day is left out.
NIGHTS = (1_325_200_000, 1_383_400_000, 1_679_700_000, 1_711_800_000)
EMPTY = (None, "")
RESOLUTIONS = ("1080p", "4k", "SD", "720p", *EMPTY)


def odd_database(path: Path, seed: int) -> None:
    """Write plays with empty, zero and negative cells, in groups whose first play may be gone."""
    pick = random.Random(seed).choice
    night, numbers = pick(NIGHTS), random.Random(seed)
    plays: list[Play] = []
    for number in range(1, 150):
        started = night + number * 7 + numbers.randrange(0, 20 * 86_400, 3600)
        plays.append(odd_play(number, started, pick, plays))
    groups = {one.history["reference_id"] for one in plays if one.history}
    gone = {group for group in groups if group % 3 == 0}
    kept = [one for one in plays if one.history and one.history["id"] not in gone]
    make_database(path, plays=kept, users=USERS)


def odd_play(number: int, started: int, pick: Callable[..., Any], earlier: list[Play]) -> Play:
    media_type = pick(("movie", "episode", "track", "clip", "photo"))
    title, show = pick(("A", "a", " A ", "Ä")), pick(("S", "s", " S", *EMPTY))
    history = {
        "media_type": media_type,
        "user_id": pick((0, 100, 101, 102, 999)),
        "section_id": pick((1, 2, 77, *EMPTY)),
        "rating_key": 1000 + number,
        "reference_id": number,
    }
    metadata = {
        "title": title,
        "full_title": title,
        "media_type": media_type,
        "year": pick((2001, 1999, *EMPTY)),
        "live": pick((0, 0, 0, 1)),
        "duration": pick((7_200_000, 0, *EMPTY)),
        "grandparent_title": "" if media_type == "movie" else show,
        "original_title": pick(("X", "S", *EMPTY)) if media_type == "track" else "",
        "guid": f"plex://{media_type}/{number}",
    }
    before = pick(earlier) if earlier and pick((True, False, False)) else None
    if before and before.history and before.metadata:
        history = {name: before.history[name] for name in history}
        metadata = {name: before.metadata[name] for name in metadata}
    return play(
        number,
        started=started,
        stopped=started + pick((0, 1, 60, 3600, 3600, 7200, -30, 90_000)),
        paused_counter=pick((0, 30, 5000, *EMPTY)),
        platform=pick(("Chrome", "Konvergo", "macos", "osx", "macOS", "WebMAF", *EMPTY)),
        view_offset=pick((0, 100, 6_119_999, 6_120_000, *EMPTY)),
        history=history,
        metadata=metadata,
        media_info={
            "transcode_decision": pick(("direct play", "copy", "transcode", *EMPTY)),
            "video_decision": pick(("direct play", "copy", "transcode")),
            "audio_decision": pick(("direct play", "copy", "transcode")),
            "video_full_resolution": pick(RESOLUTIONS),
            "video_resolution": pick(("1080", "4k", "sd", "720")),
            "stream_video_full_resolution": pick(RESOLUTIONS),
            "stream_video_resolution": pick(("1080", "4k", "sd", None)),
            "transcode_height": pick((240, 480, 576, 720, 1080, 1440, 2160, 4320, *EMPTY)),
        },
    )


@pytest.mark.parametrize(
    ("make", "zone"),
    [
        (lambda path: odd_database(path, 1), "America/New_York"),
        (lambda path: odd_database(path, 2), "Australia/Lord_Howe"),
        (lambda path: odd_database(path, 3), "Pacific/Apia"),
        # Before v1.2.0, plays had no groups.
        (lambda path: eras.make_era_database(path, "v1.1.0", 60), "Asia/Kathmandu"),
        (lambda path: eras.make_half_migrated_database(path, (), 60), "Europe/Berlin"),
        *(
            pytest.param(
                lambda path, seed=seed: odd_database(path, seed),
                "America/St_Johns",
                marks=pytest.mark.slow,
            )
            for seed in range(4, 12)
        ),
        *(
            pytest.param(
                lambda path, tag=tag: eras.make_era_database(path, tag, 60),
                "Asia/Tehran",
                marks=pytest.mark.slow,
            )
            for tag in eras.TAGS
        ),
    ],
)
def test_every_figure_of_an_odd_database_equals_tautullis(tmp_path, make, zone):
    database = tmp_path / "tautulli.db"
    make(database)
    with opened(built(database, tmp_path / "data", zone)) as connection:
        differences = compare(
            Oracle(database, zone), lambda sql: connection.execute(sql).fetchall(), zone
        )
        assert list(differences) == []
