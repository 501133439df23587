"""SQL for what a person needs to recognize a play: title, show, user, start and player."""

from __future__ import annotations

from typing import Final

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.columns import HISTORY
from tautulli_pipeline.warehouse.decoder import utc

_METADATA: Final = f"{HISTORY}_metadata"


def play_of_event(body: str, subject: str) -> str:
    """Return SQL for the columns title, show, user, started_at and player of an event.

    Args:
        body: SQL for the event as JSON.
        subject: SQL for the subject of its message.
    """
    return f"""
        {_first(body, "title")} AS title, {_first(body, "grandparent_title")} AS show,
        {_first(body, "friendly_name", "username", "user_id")} AS user,
        {utc(_first(body, "started_at"), subject)} AS started_at,
        {_first(body, "player")} AS player
    """


def play_of_record(record: str, origin: str) -> str:
    """Return SQL for the same columns of a raw record: a row of the source, or a message.

    Args:
        record: SQL for the record as JSON.
        origin: SQL for its origin.
    """
    seconds = f"TRY_CAST({_first(record, f'{HISTORY}.started')} AS BIGINT)"
    first, last = identity.FIRST_START_SECONDS, identity.LAST_START_SECONDS
    of_row = f"""CASE WHEN {seconds} <> 0 AND {seconds} BETWEEN {first} AND {last}
        THEN make_timestamp({seconds} * 1000000) END"""
    users = (f"{HISTORY}.user", f"{HISTORY}.user_id", "friendly_name", "username", "user_id")
    return f"""
        {_first(record, f"{_METADATA}.title", "title")} AS title,
        {_first(record, f"{_METADATA}.grandparent_title", "grandparent_title")} AS show,
        {_first(record, *users)} AS user,
        coalesce({of_row}, {utc(_first(record, "started_at"), origin)}) AS started_at,
        {_first(record, f"{HISTORY}.player", "player")} AS player
    """


def _first(json: str, *paths: str) -> str:
    """Return SQL for the first of these members that is not empty, as text."""
    members = ", ".join(f"nullif({json} ->> '$.{path}', '')" for path in paths)
    return f"coalesce({members})"
