"""Years of made-up plays, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tautulli_pipeline.demo.catalogue import Item, make_catalogue
from tautulli_pipeline.demo.dice import Dice
from tautulli_pipeline.demo.rows import Play
from tautulli_pipeline.demo.viewers import make_viewers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tautulli_pipeline.demo.rows import Row
    from tautulli_pipeline.demo.streams import Stream
    from tautulli_pipeline.demo.viewers import Player, Viewer

_HISTORY_SECONDS = 8 * 365 * 86_400
_LONGEST_STEP_SECONDS = 6 * 3600
_LARGEST_CATALOGUE = 3000
_KIND_SHARES = (("movie", 0.25), ("episode", 0.7), ("track", 0.92), ("live", 1.0))
_FINISHED = 0.9


@dataclass(frozen=True, slots=True)
class _Sitting:
    """What somebody watched last, for the play that resumes it."""

    item: Item
    reference_id: int
    stopped: int
    view_offset_ms: int

    def resumable_at(self, started: int) -> bool:
        unfinished = self.view_offset_ms < _FINISHED * self.item.length_ms
        return unfinished and not self.item.live and self.stopped < started


def _starts(dice: Dice, plays: int, first: int) -> Iterator[tuple[int, int]]:
    """Ids with a gap of one in about a hundred, and start times that never go back."""
    step_seconds = min(_LONGEST_STEP_SECONDS, max(1, _HISTORY_SECONDS // max(plays, 1)))
    play_id, started, moved = 0, first, False
    for _ in range(plays):
        play_id += 2 if dice.chance(0.01) else 1
        # Now and then two people press play in the same second, never three.
        moved = not moved or dice.chance(0.99)
        started += 1 + int(dice.random() * 2 * (step_seconds - 1)) if moved else 0
        yield play_id, started


class _Household:
    """Chooses who plays what; remembers what each has not finished."""

    def __init__(self, dice: Dice, plays: int, *, live: bool) -> None:
        self._dice = dice
        self._viewers = make_viewers(dice)
        size = min(_LARGEST_CATALOGUE, max(40, plays // 10))
        self._catalogue = make_catalogue(dice, size, live=live)
        # The first plays show every viewer and every kind once, however few there are.
        self._newcomers = list(self._viewers)
        self._unseen_kinds = list(self._catalogue)
        self._sittings: dict[int, _Sitting] = {}
        self._previous_viewer: Viewer | None = None

    def _viewer(self) -> Viewer:
        if self._newcomers:
            self._previous_viewer = self._newcomers.pop(0)
        else:
            others = [viewer for viewer in self._viewers if viewer is not self._previous_viewer]
            self._previous_viewer = others[int(self._dice.random() ** 2 * len(others))]
        return self._previous_viewer

    def _item(self) -> Item:
        if self._unseen_kinds:
            kind = self._unseen_kinds.pop(0)
        else:
            draw = self._dice.random()
            kind = next(name for name, share in _KIND_SHARES if draw < share)
        items = self._catalogue.get(kind) or self._catalogue["episode"]
        return items[int(self._dice.random() ** 1.5 * len(items))]

    def _sitting(self, viewer: Viewer, play_id: int, started: int) -> _Sitting:
        last = self._sittings.get(viewer.user_id)
        if last and last.resumable_at(started) and self._dice.chance(0.4):
            return last
        return _Sitting(self._item(), play_id, started, 0)

    def play(self, play_id: int, started: int) -> Play:
        """The next play; never by the viewer of the one before."""
        dice, viewer = self._dice, self._viewer()
        sitting = self._sitting(viewer, play_id, started)
        item, begin_ms = sitting.item, sitting.view_offset_ms
        share = dice.uniform(0.9, 1) if dice.chance(0.7) else dice.random()
        view_offset_ms = begin_ms + int((item.length_ms - begin_ms) * share)
        paused_seconds = int(dice.random() * 900) if dice.chance(0.25) else 0
        stopped = started + (view_offset_ms - begin_ms) // 1000 + paused_seconds
        sitting = _Sitting(item, sitting.reference_id, stopped, view_offset_ms)
        self._sittings[viewer.user_id] = sitting
        stream = item.streams[int(dice.random() ** 1.6 * len(item.streams))]
        setting = viewer, dice.choice(viewer.players), stream
        return Play(
            _history(dice, (play_id, started, paused_seconds), sitting, setting),
            (play_id, *item.metadata),
            (play_id, *stream.media_info),
        )


def _sometimes_missing(dice: Dice, value: str) -> str | None:
    if dice.chance(0.97):
        return value
    return None if dice.chance(0.3) else ""


def _history(
    dice: Dice,
    beginning: tuple[int, int, int],
    sitting: _Sitting,
    setting: tuple[Viewer, Player, Stream],
) -> Row:
    """The row of session_history, in the order of HISTORY_COLUMNS."""
    play_id, started, paused_seconds = beginning
    viewer, player, stream = setting
    item = sitting.item
    return (
        play_id,
        sitting.reference_id,
        started,
        sitting.stopped,
        item.rating_key,
        viewer.user_id,
        viewer.username,
        _sometimes_missing(dice, player.ip_address),
        paused_seconds,
        *player.description,
        _sometimes_missing(dice, player.machine_id),
        "" if dice.chance(0.05) else stream.bitrate_kbps * 6 // 5,
        player.location,
        stream.quality_profile,
        None if dice.chance(0.1) else int(player.location == "wan"),
        int(dice.chance(0.03)),
        item.parent_rating_key,
        item.grandparent_rating_key,
        item.media_type,
        item.section_id,
        sitting.view_offset_ms,
    )


def plays(count: int, *, seed: int, started_at: int, live: bool = True) -> Iterator[Play]:
    """`count` plays in the order of their ids, always the same for the same arguments.

    No two share (rating_key, user_id, started), and all have a title, a user and a start.
    The first dozen show every viewer and every kind of item. `live` allows live TV.
    """
    dice = Dice(seed)
    household = _Household(dice, count, live=live)
    for play_id, started in _starts(dice, count, started_at):
        yield household.play(play_id, started)
