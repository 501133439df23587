"""Column schemas and column lineage of the four assets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import dagster as dg

from tautulli_pipeline.events.columns import COMPUTED, COPIED, EVENT_FIELDS

SCHEMA: Final = "dagster/column_schema"
LINEAGE: Final = "dagster/column_lineage"

TABLE_KEY: Final = dg.AssetKey("playback_events")

_SOURCE_DESCRIPTIONS: Final = {
    "id": "The play's id in Tautulli. Partitions are ranges of ids.",
    "started": "Unix seconds.",
    "stopped": "Unix seconds; 0 if the end was never logged.",
}
# Source columns that each computed field is derived from.
_COMPUTED_FROM: Final[Mapping[str, tuple[str, ...]]] = {
    "event_id": ("id", "started", "user_id"),
    "session_key": ("id",),
    "correlation_key": ("id", "started", "user_id", "rating_key", "title", "machine_id"),
    "timestamp": ("started",),
    "source_row_id": ("id",),
    "started_at": ("started",),
    "stopped_at": ("stopped",),
    "friendly_name": ("user_id",),
    "library_name": ("section_id",),
    "location_type": ("location",),
    "media_duration": ("duration",),
    "percent_complete": ("view_offset", "duration", "live"),
    "watched_status": ("view_offset", "duration", "marker_credits_first", "live"),
    "play_duration": ("started", "stopped", "paused_counter"),
    "group_started_at": ("reference_id", "started"),
    "transcode_decision": ("transcode_decision", "video_decision", "audio_decision"),
}
_EVENT_DESCRIPTIONS: Final = {
    "event_id": "Derived from session key, start and user: the same play always has the same id.",
    "session_key": "The session key from the source, or the play's id as text.",
    "correlation_key": "Source, server, user, item, machine, start and session in one key.",
    "source": "The producer that reported the play; `tautulli-import` for this pipeline.",
    "server_id": "Identifies the Plex server.",
    "timestamp": "When the play started, UTC.",
    "source_row_id": "The play's id in Tautulli's history.",
    "started_at": "When the play started, UTC.",
    "stopped_at": "When the play stopped, UTC.",
    "friendly_name": "The user's display name in Tautulli.",
    "library_name": "The Plex library.",
    "location_type": "`lan` or `wan`.",
    "media_duration": "Whole seconds.",
    "media_duration_ms": "Milliseconds, as stored by Tautulli.",
    "percent_complete": "Percentage of the item that was played, calculated like Tautulli's API.",
    "watched_status": "0, 0.25, 0.5, 0.75 or 1, calculated like Tautulli's API.",
    "play_duration": "Seconds played, without pauses.",
    "group_started_at": "When the first play of its group started, UTC; Tautulli groups plays that "
    "continue each other.",
    "extra": "Values that have no column of their own, as JSON.",
}
_JSON_TYPES: Final = {
    "BOOLEAN": "boolean",
    "DOUBLE": "number",
    "TIMESTAMP": "string (RFC 3339)",
    "JSON": "object",
    "VARCHAR": "string",
}
# Columns of the table that are not fields of the event.
_TABLE_ONLY_COLUMNS: Final = {
    "import_id": ("VARCHAR", "The import that added the row; empty for other producers."),
    "stream_id": ("VARCHAR", "The stream that delivered the event."),
    "stream_sequence": ("BIGINT", "The event's sequence number on that stream."),
    "payload_hash": ("UBIGINT", "Hash of the payload, to detect duplicates with other content."),
    "content_hash": ("UBIGINT", "Hash of the content, without names and row numbers."),
    "created_at": ("TIMESTAMP", "When the row was stored, UTC."),
    "restored_at": ("TIMESTAMP", "When the row was restored from the audit log, UTC."),
}


def source_metadata() -> dict[str, object]:
    """Return the definition metadata of `tautulli_database`: the columns that are read."""
    return {
        SCHEMA: _schema((name, "any", _SOURCE_DESCRIPTIONS.get(name)) for name in _source_columns())
    }


def history_metadata(database: dg.AssetKey) -> dict[str, object]:
    """Return the definition metadata of `session_history`, which is read from a database."""
    names = _source_columns()
    return {
        SCHEMA: _schema((name, "string", _SOURCE_DESCRIPTIONS.get(name)) for name in names),
        LINEAGE: _lineage({name: (name,) for name in names}, [database]),
    }


def stream_metadata(history: dg.AssetKey) -> dict[str, object]:
    """Return the definition metadata of `playback_stream`: the fields of an event."""
    copied = {column.name: (column.source,) for column in COPIED}
    return {
        SCHEMA: _schema(
            (name, _JSON_TYPES.get(kind, "integer"), _EVENT_DESCRIPTIONS.get(name))
            for name, kind in EVENT_FIELDS.items()
        ),
        LINEAGE: _lineage({**copied, **_COMPUTED_FROM}, [history]),
    }


def table_metadata(streams: Sequence[dg.AssetKey]) -> dict[str, object]:
    """Return the definition metadata of `playback_events`: the columns of the table."""
    columns = [
        (_table_column(name), "UUID" if name == "event_id" else kind, _EVENT_DESCRIPTIONS.get(name))
        for name, kind in EVENT_FIELDS.items()
    ]
    more = [(name, kind, text) for name, (kind, text) in _TABLE_ONLY_COLUMNS.items()]
    return {
        SCHEMA: _schema([*columns, *more]),
        LINEAGE: _lineage({_table_column(name): (name,) for name in EVENT_FIELDS}, streams),
    }


def _table_column(field: str) -> str:
    return "id" if field == "event_id" else field


def _source_columns() -> list[str]:
    """Return the column names of the history tables, without repeats."""
    copied = (column.source for column in COPIED if column.name not in COMPUTED)
    return list(dict.fromkeys(("id", "started", "stopped", *copied)))


def _schema(columns: Iterable[tuple[str, str, str | None]]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(name, kind, description) for name, kind, description in columns]
    )


def _lineage(
    origins: Mapping[str, tuple[str, ...]], upstream: Sequence[dg.AssetKey]
) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            name: [
                dg.TableColumnDep(asset_key=key, column_name=source)
                for key in upstream
                for source in sources
            ]
            for name, sources in origins.items()
        }
    )
