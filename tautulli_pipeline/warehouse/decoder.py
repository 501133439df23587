"""Decodes a batch of messages to rows in one SQL query, whatever producer sent them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.columns import EVENT_FIELDS, NOT_CONTENT
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.warehouse.screening import NOT_JSON, OWN_SUBJECTS

_TIMES: Final = ("timestamp", "started_at", "stopped_at")

# SQL for fields that a producer may omit or write in more than one way.
_COMPUTED: Final = {
    "source": "coalesce(nullif(source, ''), nullif(split_part(subject, '.', 2), ''), 'unknown')",
    "server_id": "coalesce(nullif(server_id, ''), 'default')",
    "media_type": "coalesce(nullif(media_type, ''), nullif(split_part(subject, '.', 3), ''))",
    # A fraction or `true` is not a user id: rounding would assign the play to another user.
    "user_id": "CASE WHEN TRY_CAST(user_id AS INTEGER) = TRY_CAST(user_id AS DOUBLE) "
    "THEN TRY_CAST(user_id AS INTEGER) END",
}

# Table columns that hold the event field of the same name.
CONTENT_COLUMNS: Final = tuple(name for name in EVENT_FIELDS if name != "event_id")


# What counts as content: other values in these columns are a revision. The start of the group is
# compared by itself, because events of version 0.1.0 do not have it.
COMPARED_COLUMNS: Final = tuple(
    name for name in CONTENT_COLUMNS if name not in {*NOT_CONTENT, "group_started_at"}
)


def compared(table: str) -> str:
    """Return SQL for a hash of the content of a row of `table`."""
    return f"hash(row({', '.join(f'{table}.{quote_identifier(n)}' for n in COMPARED_COLUMNS)}))"


def content_columns(table: str) -> str:
    """Return SQL for all `CONTENT_COLUMNS` of a table."""
    return ", ".join(f"{table}.{quote_identifier(name)}" for name in CONTENT_COLUMNS)


# The fields needed for keys, faults and the audit log.
_KEY_FIELDS: Final = (
    *("event_id", "session_key", "correlation_key", "source", "server_id", "source_row_id"),
    *("started_at", "user_id", "rating_key", "title", "machine_id", "guid", "live"),
)
_ENVELOPE: Final = "position, sequence, subject, import_id, message_id, content, body, refusal"
# The header of our own messages: the hash of the content, and the newest start in the file. That of
# another producer means nothing.
_CONTENT_HASH: Final = (
    f"CASE WHEN source = '{identity.SOURCE}' "
    "THEN TRY_CAST(split_part(content, ' ', 1) AS UBIGINT) END"
)
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_NEWEST_START: Final = (
    f"nullif(least(TRY_CAST(split_part(content, ' ', 2) AS UBIGINT), {_LAST_SECOND}), "
    f"{_LAST_SECOND})::BIGINT"
)

# An absent time in Go, .NET, MySQL and others.
_ABSENT: Final = r"(0+|000[01]-0[01]-0[01]([T ]00:00(:00)?)?)?([.]0+)?( ?(Z|[+-]\d\d(:?\d\d)?))?"
_SHOWN_CHARACTERS: Final = 100
# Users up to this id are somebody else on each server.
LAST_LOCAL_USER: Final = 1


def _text(name: str) -> str:
    """Return SQL for the text of a field in the body."""
    return f"coalesce(json_extract_string(body, '$.{name}'), '')"


def _shown(name: str) -> str:
    """Return SQL for a field as it is in the body, for people."""
    return f"left(json_extract(body, '$.{name}')::VARCHAR, {_SHOWN_CHARACTERS})"


def _missing(name: str) -> str:
    """Return SQL for the fault that a field is missing, with its value if it has one."""
    return f"concat('missing {name}', ': ' || nullif({_shown(name)}, 'null'))"


def _is_absent(text: str) -> str:
    """Return SQL for whether the text of a time means that there is none."""
    return f"regexp_full_match({text}, '{_ABSENT}', 'i')"


_NAMED: Final = identity.uuid_of_name("nullif(event_id, '')")
_EVENT_UUID: Final = f"coalesce(TRY_CAST(event_id AS UUID), CAST({_NAMED} AS UUID))"
_FAULT: Final = f"""CASE
        WHEN refusal IS NOT NULL THEN refusal
        WHEN id IS NULL AND NOT json_valid(body) THEN '{NOT_JSON}'
        WHEN id IS NULL AND json_type(body) <> 'OBJECT' THEN 'message is not a JSON object'
        WHEN id IS NULL THEN {_missing("event_id")}
        WHEN started_at IS NULL AND {_is_absent(_text("started_at"))}
            THEN {_missing("started_at")}
        WHEN started_at IS NULL
            THEN 'started_at is not a time in the years 1-9999: ' || {_shown("started_at")}
        WHEN user_id IS NULL AND {_text("user_id")} <> ''
            THEN 'user_id is not a 32-bit integer: ' || {_shown("user_id")}
        WHEN user_id IS NULL THEN {_missing("user_id")}
        WHEN title IS NULL THEN {_missing("title")}
    END"""
# Whether the column `stored.text` keeps the whole field `given.text`.
_KEEPS_ALL: Final = f"""CASE
        WHEN key IN {_TIMES} AND {_is_absent("given.text")} THEN true
        WHEN key IN {_TIMES}
            THEN stored.text IS NOT NULL AND NOT regexp_matches(given.text, '\\.\\d*[1-9]')
        WHEN key = 'event_id' THEN TRY_CAST(given.text AS UUID)::VARCHAR = stored.text
        WHEN type IN ('BIGINT', 'UBIGINT', 'DOUBLE')
            THEN TRY_CAST(given.text AS DOUBLE) = TRY_CAST(stored.text AS DOUBLE)
        ELSE given.text = stored.text
    END"""


def keys_query(servers: Servers = ONLY_CURRENT_IDS) -> str:
    """Return SQL that decodes what deduplication needs from the view `messages`.

    `messages` has the columns of `SCREENED`. The query returns one row for each message.
    `fault` is the reason why a message is not an event, `server` the current id of its server.
    The keys `session`, `play` and `same_item` hold for one server; a guid that identifies its item
    everywhere makes `same_item` the same on all servers, for users that are the same on all.
    """
    moment = "user_id || '|' || epoch(started_at)::BIGINT || '|' ||"
    own = "server || '|' ||"
    return f"""
        SELECT position, sequence, subject, import_id, message_id, id::VARCHAR AS id,
            id::VARCHAR AS play_id, source_row_id, source, server_id, server,
            correlation_key, rating_key, guid, user_id, started_at, cross_source_key,
            {own} correlation_key AS correlation,
            {own} {moment} session_key AS session, {own} {moment} rating_key AS play,
            CASE WHEN user_id > {LAST_LOCAL_USER} THEN '' ELSE {own} '' END || {moment} guid
                AS same_item,
            {_CONTENT_HASH} AS content_hash, {_NEWEST_START} AS newest_start, {_FAULT} AS fault
        FROM (
            SELECT * REPLACE ({identity.global_guid("guid", "live = 1")} AS guid)
            FROM ({_decoded(_KEY_FIELDS, servers)})
        )
    """


def content_query() -> str:
    """Return SQL that decodes all fields of the messages in the view `messages`."""
    return f"""
        SELECT position, sequence, import_id, id, {content_columns("d")},
            hash(body) AS payload_hash, {_CONTENT_HASH} AS content_hash
        FROM ({_decoded(tuple(EVENT_FIELDS))}) d
    """


def _decoded(names: Sequence[str], servers: Servers = ONLY_CURRENT_IDS) -> str:
    """Return SQL for the fields `names` of each message, its UUID, server and cross-source key."""
    as_text = {*_TIMES, "user_id"}
    structure = {name: "VARCHAR" if name in as_text else EVENT_FIELDS[name] for name in names}
    typed = ", ".join(
        f"{_value(name)} AS {quote_identifier(name)}" for name in names if name != "event_id"
    )
    key_parts = ("server_id", "user_id", "rating_key", "title", "machine_id", "started_at")
    parts = {name: name for name in key_parts}
    cross_source = identity.cross_source_key(**parts | {"server_id": "server"})
    as_given = identity.cross_source_key(**parts) if servers.replaced else "cross_source_key"
    correlation = identity.correlation_key("source", as_given, "session_key")
    event = f"TRY(from_json(body, {quote_literal(orjson.dumps(structure).decode())}))"
    return f"""
        WITH parsed AS (SELECT {_ENVELOPE}, {event} AS event FROM messages),
        fields AS (SELECT {_ENVELOPE}, unnest(event) FROM parsed),
        typed AS (SELECT {_ENVELOPE}, {_EVENT_UUID} AS id, {typed} FROM fields),
        on_server AS (SELECT *, {servers.sql("server_id")} AS server FROM typed),
        keyed AS (SELECT *, {cross_source} AS cross_source_key FROM on_server)
        SELECT * REPLACE (coalesce(correlation_key, {correlation}) AS correlation_key) FROM keyed
    """


def _value(name: str) -> str:
    """Return SQL for the value of the field `name`."""
    column = quote_identifier(name)
    if name in _COMPUTED:
        return _COMPUTED[name]
    if name in _TIMES:
        return utc(column)
    return f"nullif({column}, '')" if EVENT_FIELDS[name] == "VARCHAR" else column


def whole_content_query() -> str:
    """Return SQL for `content_query` plus the extra fields of other producers' events."""
    return f"""
        SELECT known.* REPLACE (coalesce(more.extra, known.extra) AS extra)
        FROM ({content_query()}) known LEFT JOIN ({extra_query()}) more USING (position)
    """


def extra_query() -> str:
    """Return SQL that collects the values of other producers' events that fit no column.

    Reads the view `messages` and returns (position, extra): fields that are unknown, do
    not fit their column or lose precision in it, and the members of the producer's `extra`.
    """
    names = [name for name in CONTENT_COLUMNS if name != "extra"]
    keys = ", ".join(map(quote_literal, ["event_id", *names]))
    texts = ", ".join(f"{quote_identifier(name)}::VARCHAR" for name in ("id", *names))
    # A join with json_each would hold as many copies of a body as it has members.
    return f"""
        WITH foreign_events AS (
            SELECT position, body FROM messages
            WHERE NOT starts_with(subject, '{OWN_SUBJECTS}') AND json_valid(body)
        ),
        stored AS (
            SELECT position, unnest([{keys}]) AS key, unnest([{texts}]) AS text
            FROM ({content_query()}) WHERE position IN (SELECT position FROM foreign_events)
        ),
        given AS (
            SELECT position, key, value, json_type(value) AS type, value ->> '$' AS text
            FROM (SELECT position, {_members("body")} FROM foreign_events)
            WHERE key <> 'schema_version' AND value <> 'null'
        ),
        kept AS (
            SELECT position, key, value FROM given LEFT JOIN stored USING (position, key)
            WHERE given.text <> '' AND NOT coalesce({_KEEPS_ALL}, false)
                AND NOT (key = 'extra' AND type = 'OBJECT')
            UNION ALL
            SELECT position, {_members("value")} FROM given WHERE key = 'extra' AND type = 'OBJECT'
        )
        SELECT position, json_group_object(key, value) AS extra FROM kept GROUP BY position
    """


def _members(json: str) -> str:
    """Return SQL for one row for each member of a JSON object, as `key` and `value`."""
    return f"unnest(json_keys({json})) AS key, unnest(json_extract({json}, '$.*')) AS value"


def utc(text: str, subject: str = "subject") -> str:
    """Return SQL for a UTC TIMESTAMP in whole seconds, as in every key; no offset means UTC.

    Args:
        text: SQL for the time as the producer wrote it.
        subject: SQL for the subject of the message.
    """
    moment = f"""CASE
        WHEN {text} LIKE '%Z' THEN TRY_CAST({text} AS TIMESTAMP)
        WHEN regexp_matches({text}, ':\\d\\d(\\.\\d+)? ?[+-]\\d\\d(:?\\d\\d)?$')
            THEN make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)))
        ELSE TRY_CAST(upper({text}) AS TIMESTAMP) END"""
    # Keys and Python's `datetime` cannot represent other years. The first day of year 1 is how
    # other producers write that there is no time.
    first = f"""CASE WHEN starts_with({subject}, '{OWN_SUBJECTS}')
        THEN TIMESTAMP '0001-01-01' ELSE TIMESTAMP '0001-01-02' END"""
    last = "TIMESTAMP '9999-12-31 23:59:59.999999'"
    return f"CASE WHEN {moment} BETWEEN {first} AND {last} THEN date_trunc('second', {moment}) END"
