"""The figures that Tautulli's own API works out for a play, as SQL expressions.

Cells are text or NULL; the settings are those of a fresh Tautulli (watched at 85 %,
or at the first credits marker where that comes earlier).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a play got; offsets and durations in milliseconds."""

    view_offset: str
    duration: str
    credits_first: str
    live: str

    def _ratio(self) -> str:
        """Percent, not rounded. Tautulli takes 0.1 ms and 1 ms where a figure is empty."""
        seen = f"coalesce(TRY_CAST({self.view_offset} AS DOUBLE), 0.1)"
        whole = f"nullif(coalesce(TRY_CAST({self.duration} AS DOUBLE), 1.0), 0)"
        return f"({seen} / {whole} * 100)"

    def percent(self) -> str:
        """Whole percent, rounded half to even; 100 for live TV."""
        # The cast rounds halves to even, as Python does; round_even() errs from 9e14 on.
        rounded = f"TRY_CAST({self._ratio()} AS BIGINT)"
        return f"CASE WHEN {self.live} = '1' THEN 100 ELSE {rounded} END"

    def watched_status(self) -> str:
        """1, 0.75, 0.5, 0.25 or 0."""
        offset = f"coalesce(TRY_CAST({self.view_offset} AS DOUBLE), 0)"
        share = f"coalesce(TRY_CAST({self.duration} AS DOUBLE), 0) * 85 / 100"
        # least() passes over a NULL marker.
        threshold = f"least({share}, TRY_CAST({self.credits_first} AS DOUBLE))"
        return f"""CASE
            WHEN {self.live} = '1' THEN 1
            WHEN {threshold} <> 0 AND {offset} >= {threshold} THEN 1
            WHEN {self._ratio()} >= 63.75 THEN 0.75
            WHEN {self._ratio()} >= 42.5 THEN 0.5
            WHEN {self._ratio()} >= 21.25 THEN 0.25
            ELSE 0 END::DOUBLE"""


def play_duration(started: str, stopped: str, paused: str) -> str:
    """Seconds from start to stop without pauses; `stopped` 0 or NULL counts as no time."""
    # HUGEINT: the difference of two absurd 64-bit numbers must not end the batch.
    span = f"CASE WHEN {stopped} > 0 THEN {stopped}::HUGEINT - {started} ELSE 0 END"
    return f"TRY_CAST({span} - coalesce({paused}, 0) AS BIGINT)"


def friendly_name(friendly: str, username: str) -> str:
    """The name given to a user, or the Plex user name where that is blank."""
    return f"coalesce(CASE WHEN trim({friendly}, ' ') <> '' THEN {friendly} END, {username})"


def transcode_decision(decision: str, video: str, audio: str) -> str:
    """The decision as Tautulli back-fills it where a row has none."""
    return f"""coalesce({decision}, CASE
        WHEN {video} = 'transcode' OR {audio} = 'transcode' THEN 'transcode'
        WHEN {video} = 'copy' OR {audio} = 'copy' THEN 'copy'
        WHEN {video} IS NOT NULL OR {audio} IS NOT NULL THEN 'direct play' END)"""
