"""The columns of a play in the three history tables of Tautulli v2.17.2."""

from __future__ import annotations

from typing import NamedTuple

Cell = int | str | None
Row = tuple[Cell, ...]

_HISTORY = """
    id reference_id started stopped rating_key user_id user ip_address paused_counter
    player product product_version platform platform_version profile machine_id
    bandwidth location quality_profile secure relayed
    parent_rating_key grandparent_rating_key media_type section_id view_offset
"""
_METADATA = """
    rating_key parent_rating_key grandparent_rating_key
    title parent_title grandparent_title original_title full_title
    media_index parent_media_index thumb parent_thumb grandparent_thumb art
    media_type year originally_available_at added_at updated_at last_viewed_at
    content_rating summary tagline rating duration guid
    directors writers actors genres studio labels live
    channel_call_sign channel_id channel_identifier channel_title channel_thumb channel_vcn
    marker_credits_first marker_credits_final
"""
_MEDIA_INFO = """
    rating_key video_decision audio_decision transcode_decision duration container bitrate
    width height video_bitrate video_bit_depth video_codec video_codec_level
    video_width video_height video_resolution video_framerate video_scan_type
    video_full_resolution video_dynamic_range aspect_ratio
    audio_bitrate audio_codec audio_channels audio_language audio_language_code
    subtitles subtitle_codec subtitle_forced subtitle_language
    transcode_protocol transcode_container transcode_video_codec transcode_audio_codec
    transcode_audio_channels transcode_width transcode_height
    transcode_hw_requested transcode_hw_full_pipeline
    transcode_hw_decode transcode_hw_decode_title transcode_hw_decoding
    transcode_hw_encode transcode_hw_encode_title transcode_hw_encoding
    stream_container stream_container_decision stream_bitrate
    stream_video_decision stream_video_bitrate stream_video_codec stream_video_codec_level
    stream_video_bit_depth stream_video_height stream_video_width stream_video_resolution
    stream_video_framerate stream_video_scan_type stream_video_full_resolution
    stream_video_dynamic_range
    stream_audio_decision stream_audio_codec stream_audio_bitrate stream_audio_channels
    stream_audio_language stream_audio_language_code
    stream_subtitle_decision stream_subtitle_codec stream_subtitle_container
    stream_subtitle_forced stream_subtitle_language
    synced_version synced_version_profile
    optimized_version optimized_version_profile optimized_version_title
"""
_FLAGS = """
    subtitles subtitle_forced stream_subtitle_forced transcode_hw_requested
    transcode_hw_full_pipeline transcode_hw_decoding transcode_hw_encoding
    synced_version optimized_version
"""

# Tautulli writes '' for values missing from Plex, even in INTEGER columns.
EMPTY_METADATA: dict[str, Cell] = {
    **dict.fromkeys(_METADATA.split(), ""),
    "live": 0,
    "marker_credits_first": None,
    "marker_credits_final": None,
}
EMPTY_MEDIA_INFO: dict[str, Cell] = {
    **dict.fromkeys(_MEDIA_INFO.split(), ""),
    **dict.fromkeys(_FLAGS.split(), 0),
}

HISTORY_COLUMNS = tuple(_HISTORY.split())
METADATA_COLUMNS = ("id", *EMPTY_METADATA)
MEDIA_INFO_COLUMNS = ("id", *EMPTY_MEDIA_INFO)


class Play(NamedTuple):
    """A play's rows in the three history tables; None if missing from a damaged play."""

    history: Row
    metadata: Row | None
    media_info: Row | None
