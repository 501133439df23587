"""Maps each row of the joined history tables to one event, with one SQL query per batch.

The batch is an Arrow table of text cells as SQLite returns them, with columns named
`<table>.<column>`. Files of different Tautulli versions have different columns, so the
query is composed once per file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from tautulli_pipeline.events import formulas, identity
from tautulli_pipeline.events.columns import (
    COMPUTED,
    COPIED,
    FRIENDLY_NAME_LOOKUP,
    GROUP_START_LOOKUP,
    HISTORY,
    HISTORY_TABLES,
    LIBRARY_LOOKUP,
    LOOKUPS,
    NOT_CONTENT,
    USERNAME_LOOKUP,
    Column,
)
from tautulli_pipeline.events.identity import quote_identifier, quote_literal

# Columns that the event has in a different form.
_RESHAPED: Final = frozenset({"id", "started", "stopped"})
# Columns that no Tautulli version has, but that files from other tools may have.
_FOREIGN: Final = ("session_key", "percent_complete", "friendly_name", "library_name")

MISSING_START: Final = "missing start"

# Bounds of what a cell can feed: a subject token, and the text of a reason.
_TOKEN_CHARACTERS: Final = 32
_SHOWN_CHARACTERS: Final = 100
# A raw record of a larger row contains only the beginnings of its long cells.
_RECORD_BYTES: Final = 2**15
# A character can take four bytes.
_CUT_CHARACTERS: Final = 2**14
CUT: Final = "cut"


class Cells:
    """The cells of a batch row, as SQL expressions that are NULL for an empty cell."""

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self.columns = columns
        self._owners: dict[str, str] = {}
        for table in HISTORY_TABLES:
            for column in self.columns.get(table, ()):
                name, cell = column.lower(), _cell(table, column)
                if name == "section_id" and name in self._owners:
                    # Tautulli moved this column between tables; old rows may have it in either.
                    cell = f"coalesce({self._owners.pop(name)}, {cell})"
                self._owners.setdefault(name, cell)
        # Like Tautulli's upgrade: plays from before live TV are not live.
        self._owners.setdefault("live", "'0'")

    def __getitem__(self, name: str) -> str:
        """Return the cell `name` of history, else of metadata, else of media info."""
        return self._owners.get(name, "NULL::VARCHAR")

    def __contains__(self, name: str) -> bool:
        return name in self._owners

    def unmapped(self) -> list[tuple[str, str, str | None]]:
        """Return columns that no field copies: (name, cell, other cell with that name)."""
        known = {column.source for column in COPIED} | _RESHAPED | set(_FOREIGN)
        found: list[tuple[str, str, str | None]] = []
        for table in HISTORY_TABLES:
            for column in self.columns.get(table, ()):
                name, cell = column.lower(), _cell(table, column)
                if self._owners[name] != cell and name != "id":
                    found.append((f"{table}.{column}", cell, self._owners[name]))
                elif name not in known:
                    found.append((column, cell, None))
        return found


def _cell(table: str, column: str) -> str:
    return quote_identifier(f"{table}.{column}")


def mapping_query(
    columns: Mapping[str, Sequence[str]],
    server_id: str,
    *,
    max_payload_bytes: int,
    limit: str = "the stream",
) -> str:
    """Return the SQL query that maps the view `batch` to events.

    `columns` are those of each history table. Events over `max_payload_bytes` are rejected, and
    the reason names the `limit` that sets this size.

    Returns:
        A query with one row for each row of `batch`, in the same order. Its columns:
        `source_row_id` BIGINT (NULL if the row's id is not an integer); `event_id`,
        `subject` and `payload` VARCHAR; `reason` VARCHAR (NULL for an event, otherwise
        why the row is rejected, with `payload` NULL); the keys `correlation_key`,
        `rating_key`, `guid` (only one that identifies an item everywhere), `user_id` and
        `started_at`; the flag `live`; and `content_hash` UBIGINT, which is the same for the
        same content with other names and row numbers.
    """
    # Each stage names the expressions that later stages use more than once: binding a query
    # of this width costs as much as mapping a thousand rows.
    cells = Cells(columns)
    return f"""
        WITH cells AS (SELECT {_nulled(cells)} FROM batch),
        numbers AS (SELECT {_numbers(cells)}, * FROM cells),
        plays AS (SELECT {_plays(cells, server_id)}, * FROM numbers),
        computed AS (SELECT {_computed(cells, server_id)}, * FROM plays),
        parts AS (SELECT {_content(cells)} AS content, * FROM computed),
        mapped AS (SELECT {_payload(cells)} AS payload, * FROM parts)
        SELECT row_id AS source_row_id, event_id, {_subject(cells)} AS subject, correlation_key,
            {cells["rating_key"]} AS rating_key,
            {identity.global_guid(cells["guid"], f"{cells['live']} = '1'")} AS guid,
            user_number AS user_id, moment AS started_at,
            coalesce({cells["live"]} = '1', false) AS live,
            CASE WHEN fault IS NULL THEN hash(content) END AS content_hash,
            CASE WHEN fault IS NULL AND strlen(payload) <= {max_payload_bytes}
                THEN payload END AS payload,
            coalesce(fault, CASE WHEN strlen(payload) > {max_payload_bytes} THEN concat(
                'event of ', strlen(payload), ' bytes exceeds the limit of {max_payload_bytes}',
                {quote_literal(f", set by {limit}")}
            ) END) AS reason
        FROM mapped
    """


def record_query(columns: Mapping[str, Sequence[str]]) -> str:
    """Return the SQL query for the raw rows of the view `batch`: id and JSON by table.

    A record includes the values looked up in other tables, so it can be mapped again. In a
    record of a very large row, long cells are cut, and the member `cut` has their lengths.
    """
    cells = {table: list(columns.get(table, ())) for table in HISTORY_TABLES}
    for lookup in LOOKUPS:
        table, column = lookup.split(".")
        cells[table] = [*cells.get(table, ()), column]
    named = {f"{t}.{name}": _cell(t, name) for t, names in cells.items() for name in names}
    lengths = [f"{{'k': {quote_literal(n)}, 'v': length({cell})}}" for n, cell in named.items()]
    size = f"coalesce(list_sum([{', '.join(f'strlen({cell})' for cell in named.values())}]), 0)"
    # Half of the space is for cells of at most this length, the other half for longer ones.
    short = _CUT_CHARACTERS // 2 // len(named)
    kept = f"greatest({short}, {_CUT_CHARACTERS // 2} // greatest(len(long_cells), 1))"
    cut = "map_from_entries(list_filter(long_cells, lambda c: c.v > kept))"
    return f"""
        SELECT {_row_id()} AS source_row_id,
            CASE WHEN {size} <= {_RECORD_BYTES} THEN {_record(cells, "{}")}
                ELSE {_record(cells, "left({}, kept)", f"{CUT} := {cut}")} END AS record
        FROM (SELECT *, {kept} AS kept FROM (
            SELECT *, list_filter([{", ".join(lengths)}], lambda c: c.v > {short}) AS long_cells
            FROM batch
        ))
    """


def _record(cells: Mapping[str, Sequence[str]], cell: str, *members: str) -> str:
    """Return SQL for the cells of each table, formatted with `cell`, and for `members` as JSON."""
    tables = []
    for table, names in cells.items():
        row = ", ".join(f"{quote_identifier(c)} := {cell.format(_cell(table, c))}" for c in names)
        if row:
            tables.append(f"{quote_identifier(table)} := struct_pack({row})")
    return f"to_json(struct_pack({', '.join([*tables, *members])}))::VARCHAR"


def _row_id() -> str:
    """Return SQL for the id; NULL if it is not a 64-bit integer in canonical form."""
    cell = _cell(HISTORY, "id")
    number = f"TRY_CAST({cell} AS BIGINT)"
    return f"CASE WHEN {number}::VARCHAR = {cell} THEN {number} END"


def _nulled(cells: Cells) -> str:
    """Return SQL for every cell, with NULL for empty ones."""
    names = [_cell(table, c) for table in HISTORY_TABLES for c in cells.columns.get(table, ())]
    names += [quote_identifier(name) for name in LOOKUPS]
    return ", ".join(f"nullif({name}, '') AS {name}" for name in names)


def _numbers(cells: Cells) -> str:
    """Return SQL for the inputs of the formulas, and for numbers and booleans as JSON."""
    parsed = {
        "row_id": _row_id(),
        "start_seconds": f"TRY_CAST({cells['started']} AS BIGINT)",
        "stop_seconds": f"TRY_CAST({cells['stopped']} AS BIGINT)",
        "user_number": f"TRY_CAST({cells['user_id']} AS INTEGER)",
        "session_name": f"coalesce({cells['session_key']}, {_cell(HISTORY, 'id')})",
    }
    written = {c.name: _written(c, cells[c.source]) for c in _present(cells) if c.type != "VARCHAR"}
    return _aliased(parsed | written)


def _written(column: Column, cell: str) -> str:
    if column.type == "BOOLEAN":
        return f"CASE {cell} WHEN '1' THEN 'true' WHEN '0' THEN 'false' END"
    return f"TRY_CAST({cell} AS {column.type})::VARCHAR"


def _plays(cells: Cells, server_id: str) -> str:
    cross_source = identity.cross_source_key(
        server_id=quote_literal(server_id),
        user_id="user_number",
        rating_key=cells["rating_key"],
        title=cells["title"],
        machine_id=cells["machine_id"],
        started_at="moment",
    )
    started, user_id = cells["started"], cells["user_id"]
    fault = f"""CASE
        WHEN row_id IS NULL
            THEN concat('id is not a 64-bit integer', ': ' || {_shown(_cell(HISTORY, "id"))})
        WHEN coalesce({started}, '0') = '0' THEN '{MISSING_START}'
        WHEN moment IS NULL THEN 'start is not a time in the years 1-9999: ' || {_shown(started)}
        WHEN {user_id} IS NULL THEN 'missing user_id'
        WHEN coalesce(user_number <> TRY_CAST({user_id} AS DOUBLE), true)
            THEN 'user_id is not a 32-bit integer: ' || {_shown(user_id)}
        WHEN {cells["title"]} IS NULL THEN 'missing title' END"""
    return _aliased(
        {
            "moment": _moment("start_seconds"),
            "stop_moment": _moment("nullif(stop_seconds, 0)"),
            "group_moment": _moment(
                f"nullif(TRY_CAST({quote_identifier(GROUP_START_LOOKUP)} AS BIGINT), 0)"
            ),
            "fault": fault,
            "cross_source_key": cross_source,
        }
    )


def _shown(cell: str) -> str:
    """Return SQL for the beginning of a cell that is shown in a reason."""
    return f"left({cell}, {_SHOWN_CHARACTERS})"


def _moment(seconds: str) -> str:
    """Return SQL for a TIMESTAMP in UTC; NULL if RFC 3339 cannot represent it."""
    first, last = identity.FIRST_START_SECONDS, identity.LAST_START_SECONDS
    in_range = f"CASE WHEN {seconds} BETWEEN {first} AND {last} THEN {seconds} END"
    return f"make_timestamp({in_range} * 1000000)"


def _computed(cells: Cells, server_id: str) -> str:
    """Return SQL for the computed fields as unquoted JSON, and for the members of `extra`."""
    offset, duration, live = cells["view_offset"], cells["duration"], cells["live"]
    friendly_name = formulas.friendly_name(
        quote_identifier(FRIENDLY_NAME_LOOKUP), quote_identifier(USERNAME_LOOKUP)
    )
    computed_percent = formulas.percent_complete(offset, duration, live)
    percent = f"coalesce(TRY_CAST({cells['percent_complete']} AS BIGINT), {computed_percent})"
    watched = formulas.watched_status(offset, duration, cells["marker_credits_first"], live)
    fields = {
        "event_id": identity.event_id("session_name", "start_seconds", "user_number"),
        "session_key": "session_name",
        "correlation_key": identity.correlation_key(
            quote_literal(identity.SOURCE), "cross_source_key", "session_name"
        ),
        "source": quote_literal(identity.SOURCE),
        "server_id": quote_literal(server_id),
        "timestamp": _rfc3339("moment"),
        "source_row_id": "row_id::VARCHAR",
        "started_at": _rfc3339("moment"),
        "stopped_at": _rfc3339("stop_moment"),
        "friendly_name": f"coalesce({cells['friendly_name']}, {friendly_name})",
        "library_name": f"coalesce({cells['library_name']}, {quote_identifier(LIBRARY_LOOKUP)})",
        "location_type": f"CASE WHEN {cells['location']} = 'lan' THEN 'lan' ELSE 'wan' END",
        "media_duration": f"(TRY_CAST({cells['duration']} AS BIGINT) // 1000)::VARCHAR",
        "percent_complete": f"({percent})::VARCHAR",
        "watched_status": f"({watched})::VARCHAR",
        "play_duration": formulas.play_duration(
            "start_seconds", "stop_seconds", f"TRY_CAST({cells['paused_counter']} AS BIGINT)"
        )
        + "::VARCHAR",
        "group_started_at": _rfc3339("group_moment"),
        "decision": formulas.transcode_decision(
            cells["transcode_decision"], cells["video_decision"], cells["audio_decision"]
        ),
    }
    return _aliased(fields | {"extra_members": _extra_members(cells)})


def _rfc3339(moment: str) -> str:
    return f"{identity.time_bucket(moment)} || 'Z'"


def _payload(cells: Cells) -> str:
    """Return SQL for the event's JSON, without the fields that are NULL."""
    members = _members(cells)
    head = [_member(name, members[name]) for name in NOT_CONTENT if name in members]
    return "concat('{\"schema_version\":1', " + ", ".join(head) + ", content, '}')"


def _content(cells: Cells) -> str:
    """Return SQL for the members of the event's JSON that are the content of the play."""
    members = _members(cells)
    content = [_member(name, sql) for name, sql in members.items() if name not in NOT_CONTENT]
    return f"concat({', '.join(content)})"


def _members(cells: Cells) -> dict[str, str]:
    """Return SQL for the value of each member of the event's JSON."""
    members = {name: _json(quote_identifier(name), COMPUTED[name]) for name in COMPUTED}
    for column in _present(cells):
        sql = cells[column.source]
        if column.name == "transcode_decision":
            sql = "decision"
        elif column.type != "VARCHAR":
            sql = quote_identifier(column.name)
        members[column.name] = _json(sql, column.type)
    members["extra"] = "'{' || nullif(extra_members, '')[2:] || '}'"
    return members


def _json(sql: str, type_: str) -> str:
    if type_ == "VARCHAR":
        return f"to_json({sql})"
    if type_ == "TIMESTAMP":
        return f"'\"' || {sql} || '\"'"
    return sql


def _extra_members(cells: Cells) -> str:
    """Return SQL for `extra`: unmapped columns and cells that do not fit their type."""
    kept = [
        (name, cell, f"{cell} IS DISTINCT FROM {owner}" if owner else f"{cell} IS NOT NULL")
        for name, cell, owner in cells.unmapped()
    ]
    for column in _present(cells):
        cell, written = cells[column.source], quote_identifier(column.name)
        if column.type == "BOOLEAN":
            kept.append((column.name, cell, f"{written} IS NULL AND {cell} IS NOT NULL"))
        elif column.type != "VARCHAR":
            kept.append((column.name, cell, f"{cell} IS DISTINCT FROM {written}"))
    for name, moment in (("started", "moment"), ("stopped", "stop_moment")):
        seconds = f"coalesce(epoch({moment})::BIGINT::VARCHAR, '0')"
        kept.append((name, cells[name], f"coalesce({cells[name]}, '0') <> {seconds}"))
    percent = cells["percent_complete"]
    whole_percent = f"TRY_CAST({percent} AS BIGINT)::VARCHAR"
    kept.append(("percent_complete", percent, f"{percent} IS DISTINCT FROM {whole_percent}"))
    members = [
        f"CASE WHEN {differs} THEN {_member(name, f'to_json({cell})')} END"
        for name, cell, differs in kept
    ]
    return f"concat({', '.join(members)})"


def _subject(cells: Cells) -> str:
    """Return SQL for the subject; its last token is the media type without special characters.

    The server closes the connection on a subject of some thousand characters.
    """
    token = f"regexp_replace(lower({cells['media_type']}), '[^a-z0-9_-]', '_', 'g')"
    bounded = f"left({token}, {_TOKEN_CHARACTERS})"
    return f"'playback.{identity.SOURCE}.' || coalesce({bounded}, 'unknown')"


def _present(cells: Cells) -> list[Column]:
    """Return the copied columns of this file, and the one that is computed if missing."""
    computed = "transcode_decision"
    return [c for c in COPIED if c.source in cells or c.name == computed]


def _aliased(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {quote_identifier(name)}" for name, sql in expressions.items())


def _member(name: str, value: str) -> str:
    opening = f",{json.dumps(name, ensure_ascii=False)}:"
    return f"{quote_literal(opening)} || {value}"
