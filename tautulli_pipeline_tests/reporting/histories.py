"""Histories for reports: hostile names and titles, and a data directory for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tautulli_pipeline_tests.analytics.warehouses import built
from tautulli_pipeline_tests.cases import DEFAULT_USERS, Play, make_database, play

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tautulli_pipeline_tests.cases import Cells

DAY = 86_400
HOSTILE_TITLES = (
    "<script>document.title = 'run'; fetch('https://example.com/')</script>",
    "</style></title><h1 id=hurt>big</h1>",
    '" onmouseover="alert(1)" x=\'',
    "<img src=https://example.com/x.png onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} ${x} &lt;b&gt; %s",
    "\u202egnp.exe\u202c \u2066left\u2069 العنوان שלום",
    "bell\x07 escape\x1b[31m null-like \x01 tab\tnewline\nend",
    "m" * 400,
    "🎬 👨‍👩‍👧 ｆｕｌｌ 千と千尋",
    "Z" + "\u0301\u0302\u0303" * 60,
)
OTHER = "Rosalind <b>Other</b>"
USERS: tuple[Cells, ...] = (
    *DEFAULT_USERS,
    {"user_id": 2_000_002, "username": "other-account", "friendly_name": OTHER},
)


def data_dir_with(plays: Iterable[Play], folder: Path, users: Iterable[Cells] = USERS) -> Path:
    """Make a data directory with the statistics of some plays."""
    make_database(folder / "tautulli.db", plays=plays, users=users)
    return built(folder / "tautulli.db", folder / "data")


def episode(number: int, show: str, **cells: object) -> Play:
    return play(
        number,
        media_type="episode",
        grandparent_title=show,
        full_title=f"{show} - {number}",
        guid=f"plex://episode/{number:024x}",
        **cells,
    )


def track(number: int, artist: str, **cells: object) -> Play:
    return play(
        number,
        media_type="track",
        original_title=artist,
        grandparent_title=artist,
        guid=f"plex://track/{number:024x}",
        **cells,
    )


def live(number: int, title: str, **cells: object) -> Play:
    return play(
        number,
        title=title,
        full_title=title,
        section_id=999_999,
        metadata={"live": 1, "duration": 0},
        guid=f"tv.plex.xmltv://program/{number}",
        **cells,
    )


def hostile_plays() -> list[Play]:
    """Return 120 plays over two years whose titles, artists, players and users attack the page."""
    makers = (
        lambda n, title, **cells: play(n, title=title, full_title=title, **cells),
        episode,
        track,
    )
    found = []
    for number in range(1, 121):
        title = HOSTILE_TITLES[number % len(HOSTILE_TITLES)]
        cells = {
            "started": 1_680_000_000 + number * 5 * DAY + number * 3000,
            "stopped": 1_680_003_000 + number * 5 * DAY + number * 3000 + number,
            "platform": title,
            "user_id": 2_000_002 if number % 3 == 0 else 2_000_001,
            "transcode_decision": "transcode" if number % 4 == 0 else "direct play",
            "video_decision": "transcode" if number % 8 == 0 else "direct play",
        }
        found.append(makers[number % 3](number, title, **cells))
    return found
