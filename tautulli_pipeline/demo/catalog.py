"""Made-up films, episodes, tracks and broadcasts of a Plex server."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from tautulli_pipeline.demo import wording
from tautulli_pipeline.demo.rows import EMPTY_METADATA
from tautulli_pipeline.demo.streams import Stream, audio_file, streams, video_file
from tautulli_pipeline.demo.viewers import LIVE_SECTION_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tautulli_pipeline.demo.dice import Dice
    from tautulli_pipeline.demo.rows import Cell, Row

_ADDED_AT = 1_431_000_000
_EPISODES_PER_SEASON = 10
_TRACKS_PER_ALBUM = 12
_UNKNOWN_LENGTH_MS = 1_800_000


@dataclass(frozen=True, slots=True)
class Item:
    """A playable item; `metadata` is its row without the id."""

    media_type: str
    live: bool
    rating_key: int
    parent_rating_key: Cell
    grandparent_rating_key: Cell
    section_id: int
    length_ms: int
    metadata: Row
    streams: tuple[Stream, ...]


def _item(cells: Mapping[str, Cell], section_id: int, file: Mapping[str, Cell]) -> Item:
    row = {**EMPTY_METADATA, **cells}
    rating_key, duration_ms = int(row["rating_key"] or 0), row["duration"]
    return Item(
        media_type=str(row["media_type"]),
        live=row["live"] == 1,
        rating_key=rating_key,
        parent_rating_key=row["parent_rating_key"],
        grandparent_rating_key=row["grandparent_rating_key"],
        section_id=section_id,
        length_ms=int(duration_ms or _UNKNOWN_LENGTH_MS),
        metadata=tuple(row.values()),
        streams=streams(file, rating_key, duration_ms),
    )


def _pictures(rating_key: int, *, parent: Cell = "", grandparent: Cell = "") -> dict[str, Cell]:
    def path(key: Cell, kind: str) -> str:
        return f"/library/metadata/{key}/{kind}/{_ADDED_AT + rating_key}" if key else ""

    return {
        "thumb": path(rating_key, "thumb"),
        "parent_thumb": path(parent, "thumb"),
        "grandparent_thumb": path(grandparent, "thumb"),
        "art": path(grandparent or rating_key, "art"),
    }


def _story(dice: Dice, rating_key: int, length_ms: int) -> dict[str, Cell]:
    """Return the metadata that films and episodes have in common."""
    year = dice.randint(1927, 2023)
    marked = dice.chance(0.3)
    return {
        "rating_key": rating_key,
        "year": year,
        "originally_available_at": f"{year}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}",
        "added_at": _ADDED_AT + rating_key,
        "updated_at": _ADDED_AT + rating_key + 86_400,
        "content_rating": dice.choice(("G", "PG-13", "TV-MA", "de/16", "")),
        "summary": wording.summary(dice),
        "rating": f"{dice.uniform(3, 9.9):.1f}",
        "duration": length_ms,
        "directors": wording.people(dice, 1, 2),
        "writers": wording.people(dice, 1, 5),
        "actors": wording.people(dice, 100, 160),
        "genres": wording.genres(dice),
        "studio": dice.choice(wording.STUDIOS),
        "labels": dice.choice(("", "", "", "Kids;4K", "Shared")),
        "marker_credits_first": length_ms * 93 // 100 if marked else None,
        "marker_credits_final": length_ms * 96 // 100 if marked else None,
    }


def _movies(dice: Dice, keys: count[int]) -> Iterator[Item]:
    for rating_key in keys:
        title = wording.title(dice)
        cells = _story(dice, rating_key, dice.randint(4_800_000, 9_000_000)) | {
            "title": title,
            "original_title": f"{title} (version longue)" if dice.chance(0.1) else "",
            "full_title": title,
            "media_type": "movie",
            "tagline": "Some doors only open once." if dice.chance(0.7) else "",
            "guid": f"plex://movie/{dice.getrandbits(96):024x}",
            **_pictures(rating_key),
        }
        if dice.chance(0.02):
            # Not every file is matched or analyzed.
            cells |= {"year": "", "originally_available_at": "", "duration": ""}
        yield _item(cells, dice.choice((1, 1, 1, 4, 9)), video_file(dice))


def _episodes(dice: Dice, keys: count[int]) -> Iterator[Item]:
    while True:
        show_key, show = next(keys), wording.title(dice)
        for season in (1, 2, 3):
            season_key = next(keys)
            for episode in range(1, _EPISODES_PER_SEASON + 1):
                rating_key, title = next(keys), wording.title(dice)
                cells = _story(dice, rating_key, dice.randint(1_260_000, 3_600_000)) | {
                    "parent_rating_key": season_key,
                    "grandparent_rating_key": show_key,
                    "title": title,
                    "parent_title": f"Season {season}",
                    "grandparent_title": show,
                    "full_title": f"{show} - {title}",
                    "media_index": episode,
                    "parent_media_index": season,
                    "media_type": "episode",
                    "guid": f"plex://episode/{dice.getrandbits(96):024x}",
                    **_pictures(rating_key, parent=season_key, grandparent=show_key),
                }
                yield _item(cells, 2, video_file(dice))


def _tracks(dice: Dice, keys: count[int]) -> Iterator[Item]:
    while True:
        artist_key, artist = next(keys), wording.person(dice)
        album_key, album, year = next(keys), wording.title(dice), dice.randint(1957, 2023)
        for number in range(1, _TRACKS_PER_ALBUM + 1):
            rating_key, title = next(keys), wording.title(dice)
            cells: dict[str, Cell] = {
                "rating_key": rating_key,
                "parent_rating_key": album_key,
                "grandparent_rating_key": artist_key,
                "title": title,
                "parent_title": album,
                "grandparent_title": artist,
                "original_title": wording.person(dice) if dice.chance(0.2) else "",
                "full_title": f"{title} - {artist}",
                "media_index": number,
                "parent_media_index": 1,
                "media_type": "track",
                "year": year,
                "added_at": _ADDED_AT + rating_key,
                "updated_at": _ADDED_AT + rating_key + 86_400,
                "duration": dice.randint(95_000, 540_000),
                "guid": f"plex://track/{dice.getrandbits(96):024x}",
                "genres": wording.genres(dice),
                **_pictures(rating_key, parent=album_key, grandparent=artist_key),
                "art": "",
            }
            yield _item(cells, 3, audio_file(dice))


def _broadcasts(dice: Dice, keys: count[int]) -> Iterator[Item]:
    for rating_key in keys:
        title, episode, number = wording.title(dice), dice.chance(0.6), dice.randint(2, 60)
        cells: dict[str, Cell] = {
            "rating_key": rating_key,
            "title": title,
            "grandparent_title": title if episode else "",
            "full_title": f"{title} - {title}" if episode else title,
            "parent_thumb": None if episode else "",
            "media_type": "episode" if episode else "movie",
            "year": dice.randint(2016, 2024),
            "added_at": _ADDED_AT + rating_key,
            "summary": wording.summary(dice) if episode else "",
            "duration": 0 if dice.chance(0.25) else dice.choice((1_800_000, 3_600_000)),
            "guid": f"tv.plex.xmltv://{'episode' if episode else 'movie'}/{rating_key}",
            "live": 1,
            "channel_call_sign": f"K{number}TV-HD",
            "channel_id": f"{dice.getrandbits(48):012x}-{number}",
            "channel_identifier": f"{number}.1",
            "channel_title": f"{number}.1 K{number}TV-HD (Kanal {number})",
            "channel_thumb": f"https://provider-static.example/epg/logos/{number}.png",
            "channel_vcn": f"{number}.1",
        }
        yield _item(cells, LIVE_SECTION_ID, video_file(dice, live=True))


def make_catalog(dice: Dice, size: int, *, live: bool) -> dict[str, list[Item]]:
    """Return about `size` items by kind: movie, episode, track and, if requested, live."""
    keys = count(1000)
    makers = {"movie": (_movies, 0.3), "episode": (_episodes, 0.45), "track": (_tracks, 0.2)}
    if live:
        makers["live"] = (_broadcasts, 0.05)
    catalog = {}
    for kind, (maker, share) in makers.items():
        items = maker(dice, keys)
        catalog[kind] = [next(items) for _ in range(max(4, int(size * share)))]
    return catalog
