"""The columns of `playback_events`: names, types and sources of their values.

Names and types of the three history tables follow the DDL of all Tautulli and
PlexPy versions from v1.0 to v2.17.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HISTORY: Final = "session_history"
METADATA: Final = "session_history_metadata"
MEDIA_INFO: Final = "session_history_media_info"
HISTORY_TABLES: Final = (HISTORY, METADATA, MEDIA_INFO)

# Looked up for each play while it is read; not stored under these names.
USERNAME_LOOKUP: Final = "users.username"
FRIENDLY_NAME_LOOKUP: Final = "users.friendly_name"
LIBRARY_LOOKUP: Final = "library_sections.section_name"
# The start of the play that `reference_id` refers to, which is the first one of its group.
GROUP_START_LOOKUP: Final = "reference.started"
LOOKUPS: Final = (USERNAME_LOOKUP, FRIENDLY_NAME_LOOKUP, LIBRARY_LOOKUP, GROUP_START_LOOKUP)


@dataclass(frozen=True)
class Column:
    """A column of `playback_events` that is filled from the history column `source`."""

    name: str
    type: str
    source: str


def _columns(type_: str, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_, name) for name in names.split())


# Columns that copy one cell of the history tables. A cell that does not fit the type is
# kept in `extra`.
COPIED: Final[tuple[Column, ...]] = (
    Column("reference_id", "BIGINT", "reference_id"),
    Column("user_id", "INTEGER", "user_id"),
    Column("username", "VARCHAR", "user"),
    *_columns(
        "VARCHAR",
        """
        media_type title parent_title grandparent_title original_title full_title
        rating_key parent_rating_key grandparent_rating_key guid
        """,
    ),
    *_columns(
        "BIGINT",
        """
        section_id live year media_index parent_media_index paused_counter view_offset
        """,
    ),
    Column("media_duration_ms", "BIGINT", "duration"),
    *_columns(
        "VARCHAR",
        """
        ip_address location machine_id platform platform_version player product
        product_version profile quality_profile transcode_decision
        """,
    ),
    *_columns("BOOLEAN", "secure relayed"),
    *_columns("INTEGER", "audio_channels transcode_audio_channels stream_audio_channels"),
    *_columns(
        "BIGINT",
        """
        bandwidth added_at updated_at last_viewed_at marker_credits_first marker_credits_final
        bitrate width height video_bitrate video_bit_depth video_width video_height audio_bitrate
        subtitles subtitle_forced transcode_width transcode_height transcode_hw_requested
        transcode_hw_full_pipeline transcode_hw_decoding transcode_hw_encoding stream_bitrate
        stream_video_bitrate stream_video_bit_depth stream_video_height stream_video_width
        stream_audio_bitrate stream_subtitle_forced synced_version optimized_version
        """,
    ),
    *_columns(
        "VARCHAR",
        """
        thumb parent_thumb grandparent_thumb art originally_available_at content_rating summary
        tagline rating directors writers actors genres studio labels channel_call_sign channel_id
        channel_identifier channel_title channel_thumb channel_vcn
        video_decision audio_decision container video_codec video_codec_level video_resolution
        video_framerate video_scan_type video_full_resolution video_dynamic_range aspect_ratio
        audio_codec audio_language audio_language_code subtitle_codec subtitle_language
        subtitle_decision transcode_protocol transcode_container transcode_video_codec
        transcode_audio_codec transcode_hw_decode transcode_hw_decode_title transcode_hw_encode
        transcode_hw_encode_title stream_container stream_container_decision
        stream_video_decision stream_video_codec stream_video_codec_level
        stream_video_resolution stream_video_framerate stream_video_scan_type
        stream_video_full_resolution stream_video_dynamic_range stream_audio_decision
        stream_audio_codec stream_audio_language stream_audio_language_code
        stream_subtitle_decision stream_subtitle_codec stream_subtitle_container
        stream_subtitle_language synced_version_profile optimized_version_profile
        optimized_version_title
        """,
    ),
)

# Columns computed from several cells, in event order.
COMPUTED: Final[dict[str, str]] = {
    "event_id": "VARCHAR",
    "session_key": "VARCHAR",
    "correlation_key": "VARCHAR",
    "source": "VARCHAR",
    "server_id": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "source_row_id": "BIGINT",
    "started_at": "TIMESTAMP",
    "stopped_at": "TIMESTAMP",
    "friendly_name": "VARCHAR",
    "library_name": "VARCHAR",
    "location_type": "VARCHAR",
    "media_duration": "BIGINT",
    "percent_complete": "BIGINT",
    "watched_status": "DOUBLE",
    "play_duration": "BIGINT",
    "group_started_at": "TIMESTAMP",
}

# Fields that say nothing new about a play: its row numbers and the keys made of them, and the
# names, which change without it. They come first in an event, and the content comes after them.
NOT_CONTENT: Final = (
    *("event_id", "session_key", "correlation_key", "source", "server_id", "source_row_id"),
    *("friendly_name", "library_name", "reference_id"),
)

# Fields of an event's JSON: name to type in the warehouse.
EVENT_FIELDS: Final[dict[str, str]] = (
    COMPUTED | {column.name: column.type for column in COPIED} | {"extra": "JSON"}
)
