"""Messages to rows: one SQL query over a batch, for our own events and for others'."""

from __future__ import annotations

from typing import Final

import orjson

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.columns import EVENT_FIELDS
from tautulli_pipeline.events.identity import quote_identifier, quote_literal

_TIMES: Final = ("timestamp", "started_at", "stopped_at")
_OWN_SUBJECTS: Final = f"playback.{identity.SOURCE}.%"

# What every producer may leave out, and how it is worked out then.
_DEFAULTS: Final = {
    "source": "coalesce(source, nullif(split_part(subject, '.', 2), ''), 'unknown')",
    "server_id": "coalesce(server_id, 'default')",
    "media_type": "coalesce(media_type, nullif(split_part(subject, '.', 3), ''))",
}

# Columns of the table whose value is the event's own field of that name.
CONTENT_COLUMNS: Final = tuple(name for name in EVENT_FIELDS if name != "event_id")

_STRUCTURE: Final = orjson.dumps(
    {name: "VARCHAR" if name in _TIMES else type_ for name, type_ in EVENT_FIELDS.items()}
).decode()


def decode_query() -> str:
    """SQL that decodes the view `messages`.

    It has the columns of the writer's `MESSAGES`, and `position` and `unreadable`,
    which holds a body that is not UTF-8 with its odd bytes spelled out.

    Gives one row for each message: all of that, `id`, the content columns, the keys `session`, `cross_source_key` and `play`
    of deduplication, and `fault`, which says why a message is no event.
    """
    copied = [
        quote_identifier(name) for name in CONTENT_COLUMNS if name not in {*_TIMES, *_DEFAULTS}
    ]
    times = [f"{_utc(name)} AS {quote_identifier(name)}" for name in _TIMES]
    defaults = [f"{sql} AS {name}" for name, sql in _DEFAULTS.items()]
    names = ("server_id", "user_id", "rating_key", "title", "machine_id", "started_at")
    cross_source = identity.cross_source_key(**{name: name for name in names})
    correlation = identity.correlation_key("source", "cross_source_key", "session_key")
    envelope = "position, sequence, subject, import_id, message_id, body, unreadable"
    return f"""
        WITH parsed AS (
            SELECT {envelope}, TRY(from_json(body, {quote_literal(_STRUCTURE)})) AS event
            FROM messages
        ),
        fields AS (SELECT {envelope}, event IS NULL AS unread, unnest(event) FROM parsed),
        typed AS (
            SELECT {envelope}, unread, {_event_uuid()} AS id,
                {", ".join([*defaults, *times, *copied])}
            FROM fields
        ),
        keyed AS (SELECT *, {cross_source} AS cross_source_key FROM typed)
        SELECT * REPLACE (coalesce(correlation_key, {correlation}) AS correlation_key),
            concat_ws('|', user_id, epoch(started_at)::BIGINT, session_key) AS session,
            CASE WHEN rating_key IS NOT NULL
                THEN concat_ws('|', user_id, epoch(started_at)::BIGINT, rating_key) END AS play,
            {_fault()} AS fault
        FROM keyed
    """


def extra_query() -> str:
    """SQL that finds what other producers' events hold beyond the known fields.

    Reads the table `incoming` and gives (position, extra): unknown fields, and known
    ones whose value does not fit their column.
    """
    known = ", ".join(
        f"{quote_identifier(name)} := {quote_identifier(name)}"
        for name in EVENT_FIELDS
        if name not in {"event_id", "extra"}
    )
    return f"""
        WITH foreign_events AS (
            SELECT position, body, to_json(struct_pack({known})) AS kept
            FROM incoming WHERE fault IS NULL AND subject NOT LIKE '{_OWN_SUBJECTS}'
        ),
        given AS (
            SELECT position, field.key, field.value, field.type,
                json_extract(kept, concat('$."', replace(field.key, '"', '\\"'), '"')) AS stored
            FROM foreign_events, json_each(body) AS field
        )
        SELECT position, json_group_object(key, value) AS extra
        FROM given
        WHERE key NOT IN ('schema_version', 'event_id', 'extra') AND type <> 'NULL'
            AND (coalesce(stored, 'null') = 'null'
                OR (type = 'DOUBLE' AND CAST(stored AS VARCHAR) <> CAST(value AS VARCHAR)))
        GROUP BY position
    """


def _event_uuid() -> str:
    of_name = identity.uuid_of_name("nullif(event_id, '')")
    return f"coalesce(TRY_CAST(event_id AS UUID), CAST({of_name} AS UUID))"


def _utc(name: str) -> str:
    """TIMESTAMP in UTC at whole seconds, the grain of every key; no offset means UTC."""
    text = quote_identifier(name)
    moment = f"""CASE
        WHEN {text} LIKE '%Z' THEN TRY_CAST({text} AS TIMESTAMP)
        WHEN regexp_matches({text}, '[+-]\\d\\d:?\\d\\d$')
            THEN make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)))
        ELSE TRY_CAST({text} AS TIMESTAMP) END"""
    return f"date_trunc('second', {moment})"


def _fault() -> str:
    return """CASE
        WHEN unreadable IS NOT NULL THEN 'message is not UTF-8'
        WHEN unread AND NOT json_valid(body) THEN 'message is not JSON'
        WHEN unread OR json_type(body) <> 'OBJECT' THEN 'message is not a JSON object'
        WHEN id IS NULL THEN 'missing event_id'
        WHEN started_at IS NULL THEN 'missing start'
        WHEN user_id IS NULL THEN 'missing user_id'
        WHEN coalesce(title, '') = '' THEN 'missing title'
    END"""
