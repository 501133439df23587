"""Incomplete plays, as found in old databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tautulli_pipeline.demo.rows import HISTORY_COLUMNS, METADATA_COLUMNS, Play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tautulli_pipeline.demo.rows import Cell, Row

_STARTED = HISTORY_COLUMNS.index("started")
_USER_ID = HISTORY_COLUMNS.index("user_id")
_TITLE = METADATA_COLUMNS.index("title")


def _with(row: Row | None, position: int, value: Cell) -> Row | None:
    return None if row is None else (*row[:position], value, *row[position + 1 :])


def _without_start(play: Play) -> Play:
    return play._replace(history=_with(play.history, _STARTED, None) or ())


def _without_user_id(play: Play) -> Play:
    return play._replace(history=_with(play.history, _USER_ID, "") or ())


def _without_title(play: Play) -> Play:
    return play._replace(metadata=_with(play.metadata, _TITLE, ""))


def _without_metadata(play: Play) -> Play:
    return play._replace(metadata=None)


def _without_media_info(play: Play) -> Play:
    return play._replace(media_info=None)


# The last kind is imported; the others are rejected.
_KINDS: tuple[Callable[[Play], Play], ...] = (
    _without_start,
    _without_user_id,
    _without_metadata,
    _without_title,
    _without_media_info,
)


def damaged(plays: Iterable[Play], total: int, count: int) -> Iterator[Play]:
    """Damage `count` of `total` plays, evenly spread, cycling through the kinds of damage."""
    done = 0
    for number, play in enumerate(plays, start=1):
        if number * count // total > done:
            yield _KINDS[done % len(_KINDS)](play)
            done += 1
        else:
            yield play
