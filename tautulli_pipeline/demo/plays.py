"""Generates years of made-up plays in chronological order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tautulli_pipeline.demo.catalog import Item, make_catalog
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
class _Session:
    """A viewer's last play, which a later play may resume."""

    item: Item
    reference_id: int
    stopped: int
    view_offset_ms: int

    def resumable_at(self, started: int) -> bool:
        unfinished = self.view_offset_ms < _FINISHED * self.item.length_ms
        return unfinished and not self.item.live and self.stopped < started


def _starts(dice: Dice, plays: int, first: int) -> Iterator[tuple[int, int]]:
    """Yield ids, about 1 % of them after a gap, and start times in ascending order."""
    step_seconds = min(_LONGEST_STEP_SECONDS, max(1, _HISTORY_SECONDS // max(plays, 1)))
    play_id, started, moved = 0, first, False
    for _ in range(plays):
        play_id += 2 if dice.chance(0.01) else 1
        # Occasionally two plays start in the same second, but never three.
        moved = not moved or dice.chance(0.99)
        started += 1 + int(dice.random() * 2 * (step_seconds - 1)) if moved else 0
        yield play_id, started


class _Household:
    """Chooses viewers and items, and remembers unfinished plays."""

    def __init__(self, dice: Dice, plays: int, *, live: bool) -> None:
        self._dice = dice
        self._viewers = make_viewers(dice)
        size = min(_LARGEST_CATALOGUE, max(40, plays // 10))
        self._catalog = make_catalog(dice, size, live=live)
        # The first plays cover every viewer and every kind.
        self._newcomers = list(self._viewers)
        self._unseen_kinds = list(self._catalog)
        self._sessions: dict[int, _Session] = {}
        self._previous_viewer: Viewer | None = None

    def _choose_viewer(self) -> Viewer:
        if self._newcomers:
            self._previous_viewer = self._newcomers.pop(0)
        else:
            others = [viewer for viewer in self._viewers if viewer is not self._previous_viewer]
            self._previous_viewer = others[int(self._dice.random() ** 2 * len(others))]
        return self._previous_viewer

    def _choose_item(self) -> Item:
        if self._unseen_kinds:
            kind = self._unseen_kinds.pop(0)
        else:
            draw = self._dice.random()
            kind = next(name for name, share in _KIND_SHARES if draw < share)
        items = self._catalog.get(kind) or self._catalog["episode"]
        return items[int(self._dice.random() ** 1.5 * len(items))]

    def _choose_session(self, viewer: Viewer, play_id: int, started: int) -> _Session:
        last = self._sessions.get(viewer.user_id)
        if last and last.resumable_at(started) and self._dice.chance(0.4):
            return last
        return _Session(self._choose_item(), play_id, started, 0)

    def play(self, play_id: int, started: int) -> Play:
        """Return the next play, by a different viewer than the previous one."""
        dice, viewer = self._dice, self._choose_viewer()
        session = self._choose_session(viewer, play_id, started)
        item, begin_ms = session.item, session.view_offset_ms
        share = dice.uniform(0.9, 1) if dice.chance(0.7) else dice.random()
        view_offset_ms = begin_ms + int((item.length_ms - begin_ms) * share)
        paused_seconds = int(dice.random() * 900) if dice.chance(0.25) else 0
        stopped = started + (view_offset_ms - begin_ms) // 1000 + paused_seconds
        session = _Session(item, session.reference_id, stopped, view_offset_ms)
        self._sessions[viewer.user_id] = session
        stream = item.streams[int(dice.random() ** 1.6 * len(item.streams))]
        context = viewer, dice.choice(viewer.players), stream
        return Play(
            _history(dice, (play_id, started, paused_seconds), session, context),
            (play_id, *item.metadata),
            (play_id, *stream.media_info),
        )


def _sometimes_missing(dice: Dice, value: str) -> str | None:
    if dice.chance(0.97):
        return value
    return None if dice.chance(0.3) else ""


def _history(
    dice: Dice,
    timing: tuple[int, int, int],
    session: _Session,
    context: tuple[Viewer, Player, Stream],
) -> Row:
    """Return the row of session_history, in the order of HISTORY_COLUMNS."""
    play_id, started, paused_seconds = timing
    viewer, player, stream = context
    item = session.item
    return (
        play_id,
        session.reference_id,
        started,
        session.stopped,
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
        session.view_offset_ms,
    )


def plays(count: int, *, seed: int, started_at: int, live: bool = True) -> Iterator[Play]:
    """Yield `count` plays in id order; the same arguments produce the same plays.

    No two plays share (rating_key, user_id, started), and all have a title, a user and a
    start. The first dozen cover every viewer and every kind of item. `live` enables live TV.
    """
    dice = Dice(seed)
    household = _Household(dice, count, live=live)
    for play_id, started in _starts(dice, count, started_at):
        yield household.play(play_id, started)
