"""Each row of the joined history tables to one event, as one SQL query over a batch.

The batch is an Arrow table of text cells, as SQLite gives them, with columns named
`<table>.<column>`. A file has only the columns of its era, so the query is composed
once for each file from the columns that are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tautulli_pipeline.events import formulas, identity
from tautulli_pipeline.events.columns import (
    COMPUTED,
    COPIED,
    FRIENDLY_NAME_LOOKUP,
    HISTORY,
    HISTORY_TABLES,
    LIBRARY_LOOKUP,
    USERNAME_LOOKUP,
    Column,
)
from tautulli_pipeline.events.identity import quote_identifier, quote_literal

# Cells that reach the event in a form of their own.
_RESHAPED: Final = frozenset({"id", "started", "stopped"})
# Columns that no Tautulli has, but that files of other tools bring along.
_FOREIGN: Final = ("session_key", "percent_complete", "friendly_name", "library_name")

MISSING_START: Final = "missing start"
MISSING_USER: Final = "missing user_id"
MISSING_TITLE: Final = "missing title"


@dataclass(frozen=True)
class Cells:
    """The cells of one batch row, as SQL expressions that are NULL where a cell is empty."""

    columns: Mapping[str, Sequence[str]]
    _owners: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for table in HISTORY_TABLES:
            for column in self.columns.get(table, ()):
                self._owners.setdefault(column.lower(), _cell(table, column))

    def __getitem__(self, name: str) -> str:
        """The cell that has `name`: history's, else metadata's, else media info's."""
        return self._owners.get(name, "NULL::VARCHAR")

    def __contains__(self, name: str) -> bool:
        return name in self._owners

    def strangers(self) -> list[tuple[str, str, str | None]]:
        """Columns without a home of their own: (name, cell, cell that has the name)."""
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
    return f"nullif({quote_identifier(f'{table}.{column}')}, '')"


def mapping_query(
    columns: Mapping[str, Sequence[str]], server_id: str, *, max_payload_bytes: int
) -> str:
    """SQL that maps the view `batch`.

    Args:
        columns: the columns each history table has in this file.
        server_id: goes into keys and events.
        max_payload_bytes: an event over this size is rejected.

    Returns:
        A query of one row for each row of `batch`, in its order: `source_row_id`
        BIGINT, `event_id` VARCHAR, `subject` VARCHAR, `payload` VARCHAR, `reason`
        VARCHAR (NULL: the row became an event) and `record` VARCHAR (the raw row as
        JSON, only where there is a reason), and the keys `correlation_key`,
        `rating_key`, `user_id` and `started_at`.
    """
    cells = Cells(columns)
    fields = [(name, f"typed.{quote_identifier(name)}", type_) for name, type_ in COMPUTED.items()]
    fields += [(c.name, f"typed.{quote_identifier(c.name)}", c.type) for c in _present(cells)]
    fields.sort(key=lambda f: f[0] != "event_id")
    payload = _json_object(fields, f"typed.{quote_identifier('extra')}")
    return f"""
        WITH cells AS (SELECT {_parsed(cells)}, * FROM batch),
        plays AS (SELECT {_plays(cells, server_id)}, * FROM cells),
        typed AS (SELECT {_typed(cells, server_id)}, * FROM plays),
        mapped AS (SELECT {payload} AS payload, * FROM typed)
        SELECT source_row_id, event_id, {_subject(cells)} AS subject, correlation_key, rating_key, user_id,
            started_at,
            CASE WHEN strlen(payload) > {max_payload_bytes} THEN NULL ELSE payload END AS payload,
            coalesce(fault, CASE WHEN strlen(payload) > {max_payload_bytes}
                THEN 'event of ' || strlen(payload) || ' bytes exceeds the stream''s limit of '
                    || '{max_payload_bytes}' END) AS reason,
            CASE WHEN reason IS NOT NULL THEN {_record(cells)} END AS record
        FROM mapped
    """


def _subject(cells: Cells) -> str:
    """The media type as a subject token: no dots, blanks or wildcards."""
    token = f"regexp_replace(lower({cells['media_type']}), '[^a-z0-9_-]', '_', 'g')"
    return f"'playback.{identity.SOURCE}.' || coalesce({token}, 'unknown')"


def _present(cells: Cells) -> list[Column]:
    """The copied columns this file has, and the one that is made up where it lacks."""
    made_up = {"transcode_decision"}
    return [c for c in COPIED if c.source in cells or c.name in made_up]


def _parsed(cells: Cells) -> str:
    """Numbers that more than one formula needs, under names no cell has."""
    return f"""
        CAST({quote_identifier(f"{HISTORY}.id")} AS BIGINT) AS row_id,
        {_whole(cells["started"], "BIGINT")} AS start_seconds,
        {_whole(cells["stopped"], "BIGINT")} AS stop_seconds,
        {_whole(cells["user_id"], "INTEGER")} AS user_number,
        coalesce({cells["session_key"]}, {quote_identifier(f"{HISTORY}.id")}) AS session_name
    """


def _plays(cells: Cells, server_id: str) -> str:
    cross_source = identity.cross_source_key(
        server_id=quote_literal(server_id),
        user_id="user_number",
        rating_key=cells["rating_key"],
        title=cells["title"],
        machine_id=cells["machine_id"],
        started_at="moment",
    )
    return f"""
        {_moment("start_seconds")} AS moment,
        {_moment("nullif(stop_seconds, 0)")} AS stop_moment,
        CASE
            WHEN coalesce({cells["started"]}, '0') = '0' THEN '{MISSING_START}'
            WHEN moment IS NULL THEN 'start is no second of the years 1 to 9999: '
                || {cells["started"]}
            WHEN {cells["user_id"]} IS NULL THEN '{MISSING_USER}'
            WHEN user_number IS NULL THEN 'user_id is no 32-bit integer: ' || {cells["user_id"]}
            WHEN {cells["title"]} IS NULL THEN '{MISSING_TITLE}'
        END AS fault,
        {cross_source} AS cross_source_key
    """


def _moment(seconds: str) -> str:
    """TIMESTAMP in UTC; NULL where RFC 3339 has no way to write it."""
    first, last = identity.FIRST_START_SECONDS, identity.LAST_START_SECONDS
    in_range = f"CASE WHEN {seconds} BETWEEN {first} AND {last} THEN {seconds} END"
    return f"make_timestamp({in_range} * 1000000)"


def _typed(cells: Cells, server_id: str) -> str:
    live = _whole(cells["live"], "BIGINT")
    progress = formulas.Progress(
        view_offset=cells["view_offset"],
        duration=cells["duration"],
        credits_first=cells["marker_credits_first"],
        live=live,
    )
    percent = f"coalesce({_whole(cells['percent_complete'], 'BIGINT')}, {progress.percent()})"
    computed = {
        "event_id": identity.event_id("session_name", "start_seconds", "user_number"),
        "session_key": "session_name",
        "correlation_key": identity.correlation_key(
            quote_literal(identity.SOURCE), "cross_source_key", "session_name"
        ),
        "source": quote_literal(identity.SOURCE),
        "server_id": quote_literal(server_id),
        "timestamp": "moment",
        "source_row_id": "row_id",
        "started_at": "moment",
        "stopped_at": "stop_moment",
        "friendly_name": f"coalesce({cells['friendly_name']}, "
        + formulas.friendly_name(
            quote_identifier(FRIENDLY_NAME_LOOKUP), quote_identifier(USERNAME_LOOKUP)
        )
        + ")",
        "library_name": f"coalesce({cells['library_name']}, "
        f"nullif({quote_identifier(LIBRARY_LOOKUP)}, ''))",
        "location_type": f"CASE WHEN {cells['location']} = 'lan' THEN 'lan' ELSE 'wan' END",
        "media_duration": f"{_whole(cells['duration'], 'BIGINT')} // 1000",
        "percent_complete": percent,
        "watched_status": progress.watched_status(),
        "play_duration": formulas.play_duration(
            "start_seconds", "stop_seconds", _whole(cells["paused_counter"], "BIGINT")
        ),
    }
    copied = {c.name: _value(c, cells) for c in _present(cells)}
    outputs = {**computed, **copied, "extra": _extra(cells)}
    return ", ".join(f"{sql} AS {quote_identifier(name)}" for name, sql in outputs.items())


def _value(column: Column, cells: Cells) -> str:
    cell = cells[column.source]
    if column.name == "user_id":
        return "user_number"
    if column.name == "transcode_decision":
        return formulas.transcode_decision(cell, cells["video_decision"], cells["audio_decision"])
    if column.type == "VARCHAR":
        return cell
    if column.type == "BOOLEAN":
        return f"CASE {cell} WHEN '1' THEN true WHEN '0' THEN false END"
    return _whole(cell, column.type)


def _whole(cell: str, type_: str) -> str:
    """The whole number in `cell`; NULL where it holds anything else."""
    return f"TRY_CAST({cell} AS {type_})"


def _extra(cells: Cells) -> str:
    """JSON of what has no home: unknown columns, differing doubles, cells of another type."""
    parts = []
    for name, cell, owner in cells.strangers():
        same = f"{cell} IS NOT DISTINCT FROM {owner}" if owner else f"{cell} IS NULL"
        parts.append(f"CASE WHEN NOT ({same}) THEN {_member(name, f'to_json({cell})')} END")
    for column in _present(cells):
        cell = cells[column.source]
        if column.type in {"BIGINT", "INTEGER"}:
            kept = f"{_value(column, cells)}::VARCHAR"
            fits = f"{cell} IS NOT DISTINCT FROM {kept}"
        elif column.type == "BOOLEAN":
            fits = f"coalesce({cell}, '0') IN ('0', '1')"
        else:
            continue
        parts.append(f"CASE WHEN NOT ({fits}) THEN {_member(column.name, f'to_json({cell})')} END")
    for name, number in (("started", "epoch(moment)"), ("stopped", "epoch(stop_moment)")):
        cell = cells[name]
        fits = f"coalesce({cell}, '0') = coalesce({number}::BIGINT::VARCHAR, '0')"
        parts.append(f"CASE WHEN NOT ({fits}) THEN {_member(name, f'to_json({cell})')} END")
    joined = f"concat({', '.join(parts)})"
    return f"CASE WHEN {joined} <> '' THEN concat('{{', {joined}[2:], '}}') END"


def _record(cells: Cells) -> str:
    """The raw row as JSON by table, made only for rows that were rejected."""
    tables = []
    for table in HISTORY_TABLES:
        columns = cells.columns.get(table, ())
        row = ", ".join(
            f"{quote_identifier(c)} := {quote_identifier(f'{table}.{c}')}" for c in columns
        )
        if row:
            tables.append(f"{quote_identifier(table)} := struct_pack({row})")
    return f"to_json(struct_pack({', '.join(tables)}))::VARCHAR"


def _json_object(fields: Sequence[tuple[str, str, str]], extra: str) -> str:
    """A JSON object of `fields` (name, SQL, type), leaving out those that are NULL."""
    members = [_member(name, _json_value(sql, type_)) for name, sql, type_ in fields]
    members.append(_member("extra", extra))
    return "concat('{\"schema_version\":1', " + ", ".join(members) + ", '}')"


def _member(name: str, json: str) -> str:
    opening = "," + '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '":'
    return f"{quote_literal(opening)} || {json}"


def _json_value(sql: str, type_: str) -> str:
    if type_ == "VARCHAR":
        return f"to_json({sql})"
    if type_ == "TIMESTAMP":
        return f"'\"' || {identity.time_bucket(sql)} || 'Z\"'"
    return f"{sql}::VARCHAR"
