"""The columns of the four assets, and which columns each one is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import dagster as dg

from tautulli_pipeline.events.columns import COMPUTED, COPIED, EVENT_FIELDS

SCHEMA: Final = "dagster/column_schema"
LINEAGE: Final = "dagster/column_lineage"

DATABASE_KEY: Final = dg.AssetKey("tautulli_database")
HISTORY_KEY: Final = dg.AssetKey("session_history")
STREAM_KEY: Final = dg.AssetKey("playback_stream")
TABLE_KEY: Final = dg.AssetKey("playback_events")

_OF_THE_SOURCE: Final = {
    "id": "The play's number in Tautulli; partitions are ranges of it.",
    "started": "Unix seconds.",
    "stopped": "Unix seconds; 0 where the end was never logged.",
}
# What a computed field is worked out from, by the source's names.
_MADE_OF: Final[Mapping[str, tuple[str, ...]]] = {
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
    "transcode_decision": ("transcode_decision", "video_decision", "audio_decision"),
}
_MEANINGS: Final = {
    "event_id": "The same for the same play, always: it comes of session key, start and user.",
    "session_key": "The source's own, or else the play's id as text.",
    "correlation_key": "Source, server, user, item, machine, start and session in one key.",
    "source": "Who reported the play; `tautulli-import` for this pipeline.",
    "server_id": "Names the Plex server.",
    "timestamp": "When the play started, UTC.",
    "source_row_id": "The play's id in Tautulli's history.",
    "started_at": "When the play started, UTC.",
    "stopped_at": "When it stopped, UTC.",
    "friendly_name": "What Tautulli calls the user.",
    "library_name": "The Plex library.",
    "location_type": "`lan` or `wan`.",
    "media_duration": "Whole seconds.",
    "media_duration_ms": "Milliseconds, as Tautulli has it.",
    "percent_complete": "How much of it was played, as Tautulli reckons.",
    "watched_status": "0, 0.25, 0.5, 0.75 or 1, as Tautulli reckons.",
    "play_duration": "Seconds played, pauses left out.",
    "extra": "Whatever has no column of its own, as JSON.",
}
_JSON_TYPES: Final = {
    "BOOLEAN": "boolean",
    "DOUBLE": "number",
    "TIMESTAMP": "string (RFC 3339)",
    "JSON": "object",
    "VARCHAR": "string",
}
# What the table has besides the event.
_OF_THE_TABLE: Final = {
    "import_id": ("VARCHAR", "The import that brought the row; empty for other producers."),
    "stream_id": ("VARCHAR", "The stream it came over."),
    "stream_sequence": ("BIGINT", "Its place on that stream."),
    "payload_hash": ("UBIGINT", "Tells a repeat with other content from a plain repeat."),
    "created_at": ("TIMESTAMP", "When the row was stored, UTC."),
    "restored_at": ("TIMESTAMP", "When a person restored it from the audit, UTC."),
}


def source_metadata() -> dict[str, object]:
    """Definition metadata of `tautulli_database`: what is read of the file."""
    return {SCHEMA: _schema((name, "any", _OF_THE_SOURCE.get(name)) for name in _source_columns())}


def history_metadata() -> dict[str, object]:
    """Definition metadata of `session_history`."""
    names = _source_columns()
    return {
        SCHEMA: _schema((name, "string", _OF_THE_SOURCE.get(name)) for name in names),
        LINEAGE: _lineage({name: (name,) for name in names}, DATABASE_KEY),
    }


def stream_metadata() -> dict[str, object]:
    """Definition metadata of `playback_stream`: the fields of an event."""
    copied = {column.name: (column.source,) for column in COPIED}
    return {
        SCHEMA: _schema(
            (name, _JSON_TYPES.get(kind, "integer"), _MEANINGS.get(name))
            for name, kind in EVENT_FIELDS.items()
        ),
        LINEAGE: _lineage({**copied, **_MADE_OF}, HISTORY_KEY),
    }


def table_metadata() -> dict[str, object]:
    """Definition metadata of `playback_events`: the table."""
    columns = [
        (_in_table(name), "UUID" if name == "event_id" else kind, _MEANINGS.get(name))
        for name, kind in EVENT_FIELDS.items()
    ]
    more = [(name, kind, meaning) for name, (kind, meaning) in _OF_THE_TABLE.items()]
    return {
        SCHEMA: _schema([*columns, *more]),
        LINEAGE: _lineage({_in_table(name): (name,) for name in EVENT_FIELDS}, STREAM_KEY),
    }


def _in_table(field: str) -> str:
    return "id" if field == "event_id" else field


def _source_columns() -> list[str]:
    """The history tables' columns, each name once."""
    copied = (column.source for column in COPIED if column.name not in COMPUTED)
    return list(dict.fromkeys(("id", "started", "stopped", *copied)))


def _schema(columns: Iterable[tuple[str, str, str | None]]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(name, kind, description) for name, kind, description in columns]
    )


def _lineage(
    made_of: Mapping[str, tuple[str, ...]], upstream: dg.AssetKey
) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key=upstream, column_name=source) for source in sources]
            for name, sources in made_of.items()
        }
    )
