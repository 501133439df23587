"""SQL expressions for the values that Tautulli's API computes for a play.

Cells are text or NULL; offsets and durations are in milliseconds. The settings are
Tautulli's defaults: watched at 85 %, or at the first credits marker if that is earlier.
"""

from __future__ import annotations


def percent_complete(view_offset: str, duration: str, live: str) -> str:
    """Return whole percent, rounded half to even; 100 for live TV."""
    # The cast rounds half to even, as Python does. round_even() is wrong from 9e14 on.
    rounded = f"TRY_CAST({_ratio(view_offset, duration)} AS BIGINT)"
    return f"CASE WHEN {live} = '1' THEN 100 ELSE {rounded} END"


def watched_status(view_offset: str, duration: str, credits_first: str, live: str) -> str:
    """Return 1, 0.75, 0.5, 0.25 or 0."""
    ratio = _ratio(view_offset, duration)
    offset = f"coalesce(TRY_CAST({view_offset} AS DOUBLE), 0)"
    share = f"coalesce(TRY_CAST({duration} AS DOUBLE), 0) * 85 / 100"
    # least() ignores a NULL marker.
    threshold = f"least({share}, TRY_CAST({credits_first} AS DOUBLE))"
    return f"""CASE
        WHEN {live} = '1' THEN 1
        WHEN {threshold} <> 0 AND {offset} >= {threshold} THEN 1
        WHEN {ratio} >= 63.75 THEN 0.75
        WHEN {ratio} >= 42.5 THEN 0.5
        WHEN {ratio} >= 21.25 THEN 0.25
        ELSE 0 END::DOUBLE"""


def _ratio(view_offset: str, duration: str) -> str:
    """Return unrounded percent; like Tautulli, 0.1 ms and 1 ms replace empty values."""
    seen = f"coalesce(TRY_CAST({view_offset} AS DOUBLE), 0.1)"
    whole = f"nullif(coalesce(TRY_CAST({duration} AS DOUBLE), 1.0), 0)"
    return f"({seen} / {whole} * 100)"


def play_duration(started: str, stopped: str, paused: str) -> str:
    """Return seconds from start to stop, minus pauses; without a stop, the span is 0."""
    # HUGEINT: the difference of two extreme 64-bit numbers must not fail the batch.
    span = f"CASE WHEN {stopped} > 0 THEN {stopped}::HUGEINT - {started} ELSE 0 END"
    return f"TRY_CAST({span} - coalesce({paused}, 0) AS BIGINT)"


def friendly_name(friendly: str, username: str) -> str:
    """Return the user's friendly name, or the Plex user name if that is blank."""
    return f"coalesce(CASE WHEN trim({friendly}, ' ') <> '' THEN {friendly} END, {username})"


def transcode_decision(decision: str, video: str, audio: str) -> str:
    """Return the decision, filled in as Tautulli does if a row has none."""
    return f"""coalesce({decision}, CASE
        WHEN {video} = 'transcode' OR {audio} = 'transcode' THEN 'transcode'
        WHEN {video} = 'copy' OR {audio} = 'copy' THEN 'copy'
        WHEN {video} IS NOT NULL OR {audio} IS NOT NULL THEN 'direct play' END)"""
