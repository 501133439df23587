"""Made-up viewers, their devices, and the libraries of their server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tautulli_pipeline.demo.dice import Dice
    from tautulli_pipeline.demo.rows import Cell, Row

LIVE_SECTION_ID = 999_999
SERVER_ID = "0ddba11c0ffee0ddba11c0ffee0ddba11c0ffee0"

# user_id, username, friendly_name; the most active viewers first.
_PEOPLE: tuple[tuple[int, str, str | None], ...] = (
    (2_000_001, "mira", "Mira"),
    (2_000_002, "sven-åke", None),
    (2_000_003, "pat o'brien", 'Pat "The Remote" O\'Brien'),
    (0, "Local", None),
    (2_000_004, "はなこ", "花子 🎬"),
    (2_000_005, "kids", ""),
    (2_000_006, "проводник", "Проводник"),
    (2_000_007, "tab\tand; semicolon", "   "),
    (2_000_008, "Élodie 🎧", "Élodie"),
    (250_000_000, "m" * 64, None),
    (2_000_009, "left.long.ago", "Left Long Ago"),
    (2_000_010, "never.listed", None),
)
_OWNER_USER_ID = 2_000_001
_DELETED_USER_ID = 2_000_009
_UNLISTED_USER_ID = 2_000_010

# player, product, product_version, platform, platform_version, profile
_DEVICES: tuple[tuple[str, ...], ...] = (
    ("Chrome", "Plex Web", "4.132.2", "Chrome", "128.0", "Web"),
    ("Living Room 🛋", "Plex for Apple TV", "8.42", "tvOS", "17.6", "tvOS"),
    ('Bob\'s "Roku"', "Plex for Roku", "7.28.1", "Roku", "13.0", "Roku"),
    ("Pixel 8", "Plex for Android (Mobile)", "10.19.0", "Android", "14", "Android"),
    ("iPhone", "Plexamp", "4.11.0", "iOS", "17.6", "Plexamp"),
    ("SHIELD Android TV", "Plex for Android (TV)", "10.19.1", "Android", "11", "Android"),
)

# section_id, name, type, agent, count, parent_count, child_count, is_active, deleted_section
_LIBRARIES: tuple[Row, ...] = (
    (1, "Movies", "movie", "tv.plex.agents.movie", 812, "", "", 1, 0),
    (2, "TV Shows", "show", "tv.plex.agents.series", 94, 310, 4120, 1, 0),
    (3, "Music", "artist", "tv.plex.agents.music", 203, 611, 7804, 1, 0),
    (4, "Films d'animation", "movie", "tv.plex.agents.movie", 77, "", "", 1, 0),
    (9, "Old Films", "movie", "com.plexapp.agents.imdb", 0, "", "", 0, 1),
    (LIVE_SECTION_ID, "Live TV", "live", None, None, None, None, 1, 0),
)


@dataclass(frozen=True, slots=True)
class Player:
    """A viewer's device and its location."""

    description: tuple[str, ...]
    machine_id: str
    ip_address: str
    location: str


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person who plays items on their devices."""

    user_id: int
    username: str
    friendly_name: str | None
    players: tuple[Player, ...]


def _make_player(dice: Dice) -> Player:
    at_home = dice.chance(0.6)
    host = dice.randint(2, 250)
    remote = f"2001:db8::{host:x}" if dice.chance(0.3) else f"203.0.113.{host}"
    return Player(
        description=dice.choice(_DEVICES),
        machine_id=f"{dice.getrandbits(96):024x}",
        ip_address=f"192.168.1.{host}" if at_home else remote,
        location="lan" if at_home else "wan",
    )


def make_viewers(dice: Dice) -> list[Viewer]:
    """Return all viewers; one of them is missing from the users table."""
    return [
        Viewer(user_id, username, friendly, tuple(_make_player(dice) for _ in range(3)))
        for user_id, username, friendly in _PEOPLE
    ]


def _user_row(user_id: int, username: str, friendly_name: str | None) -> dict[str, Cell]:
    # Tautulli adds the user Local with only these three cells.
    row: dict[str, Cell] = {
        "user_id": user_id,
        "username": username,
        "friendly_name": friendly_name,
    }
    if user_id == 0:
        return row
    filters = ("filter_all", "filter_movies", "filter_tv", "filter_music", "filter_photos")
    return row | {
        "thumb": f"https://plex.tv/users/{user_id:016x}/avatar?c=1",
        "title": username,
        "email": f"viewer{user_id}@example.com",
        "is_active": int(user_id != _DELETED_USER_ID),
        "is_admin": int(user_id == _OWNER_USER_ID),
        "is_home_user": int(username == "kids"),
        "is_allow_sync": 1,
        "is_restricted": int(username == "kids"),
        "deleted_user": int(user_id == _DELETED_USER_ID),
        "user_token": f"made-up-user-secret-{user_id}",
        "server_token": f"made-up-server-secret-{user_id}",
        "shared_libraries": "1;2;3",
        **dict.fromkeys(filters, ""),
    }


def user_rows() -> list[dict[str, Cell]]:
    """Return the rows of `users`, by column name."""
    return [_user_row(*person) for person in sorted(_PEOPLE) if person[0] != _UNLISTED_USER_ID]


def library_rows() -> list[dict[str, Cell]]:
    """Return the rows of `library_sections`, by column name."""
    names = "section_id section_name section_type agent count parent_count child_count"
    columns = ("server_id", *names.split(), "is_active", "deleted_section", "thumb", "art")
    return [
        dict(
            zip(
                columns,
                (SERVER_ID, *row, f"/:/resources/{row[2]}.png", f"/:/resources/{row[2]}-art.jpg"),
                strict=True,
            )
        )
        for row in _LIBRARIES
    ]
