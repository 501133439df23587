"""The ways to stream a made-up file: direct play, remux or transcode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tautulli_pipeline.demo.rows import EMPTY_MEDIA_INFO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tautulli_pipeline.demo.dice import Dice
    from tautulli_pipeline.demo.rows import Cell, Row

# resolution, full resolution, width, height, kbit/s, dynamic range
_PICTURES: tuple[tuple[str, str, int, int, int, str], ...] = (
    ("sd", "SD", 720, 480, 1900, "SDR"),
    ("720", "720p", 1280, 720, 4200, "SDR"),
    ("1080", "1080p", 1920, 1080, 9800, "SDR"),
    ("1080", "1080p", 1920, 1080, 12400, "SDR"),
    ("4k", "4k", 3840, 2160, 48200, "HDR10"),
)
_SOUNDS: tuple[tuple[str, int, int], ...] = (("aac", 2, 192), ("ac3", 6, 448), ("eac3", 6, 640))

_TARGET_HEIGHT = 720
_LANGUAGES = (("English", "eng"), ("English", "eng"), ("Français", "fra"), ("日本語", "jpn"))

_DIRECT: dict[str, Cell] = {
    "video_decision": "direct play",
    "audio_decision": "direct play",
    "transcode_decision": "direct play",
    "stream_container_decision": "direct play",
}
_REMUX: dict[str, Cell] = {
    "video_decision": "copy",
    "audio_decision": "copy",
    "transcode_decision": "copy",
    "transcode_protocol": "dash",
    "transcode_container": "mp4",
    "stream_container": "mp4",
    "stream_container_decision": "transcode",
    "stream_video_decision": "copy",
    "stream_audio_decision": "copy",
}
_AUDIO_TRANSCODE: dict[str, Cell] = {
    "audio_decision": "transcode",
    "transcode_decision": "transcode",
    "transcode_protocol": "http",
    "transcode_container": "mp3",
    "transcode_audio_codec": "mp3",
    "transcode_audio_channels": 2,
    "stream_container": "mp3",
    "stream_container_decision": "transcode",
    "stream_bitrate": 256,
    "stream_audio_decision": "transcode",
    "stream_audio_codec": "mp3",
    "stream_audio_bitrate": 256,
    "stream_audio_channels": 2,
}
_VIDEO_TRANSCODE: dict[str, Cell] = _AUDIO_TRANSCODE | {
    "video_decision": "transcode",
    "transcode_protocol": "dash",
    "transcode_container": "mp4",
    "transcode_video_codec": "h264",
    "transcode_audio_codec": "aac",
    "transcode_hw_requested": 1,
    "transcode_hw_full_pipeline": 1,
    "transcode_hw_decode": "vaapi",
    "transcode_hw_decode_title": "Intel (VAAPI)",
    "transcode_hw_decoding": 1,
    "transcode_hw_encode": "vaapi",
    "transcode_hw_encode_title": "Intel (VAAPI)",
    "transcode_hw_encoding": 1,
    "stream_container": "mp4",
    "stream_bitrate": 4000,
    "stream_video_decision": "transcode",
    "stream_video_bitrate": 3744,
    "stream_video_codec": "h264",
    "stream_video_codec_level": "",
    "stream_video_bit_depth": 8,
    "stream_video_dynamic_range": "SDR",
    "stream_audio_codec": "aac",
}
_SHRINK: dict[str, Cell] = {
    "transcode_width": 1280,
    "transcode_height": 720,
    "stream_video_height": 720,
    "stream_video_width": 1280,
    "stream_video_resolution": "720",
    "stream_video_full_resolution": "720p",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One way to stream a file; `media_info` is its row without the id."""

    quality_profile: str
    bitrate_kbps: int
    media_info: Row


def video_file(dice: Dice, *, live: bool = False) -> dict[str, Cell]:
    """Return the source columns of a film, an episode or a broadcast."""
    pictures = _PICTURES[:3] if live else _PICTURES
    resolution, full, width, height, kbps, dynamic_range = dice.choice(pictures)
    audio_codec, channels, audio_kbps = dice.choice(_SOUNDS)
    hevc = resolution == "4k"
    language, code = dice.choice(_LANGUAGES)
    return {
        "container": "mpegts" if live else dice.choice(("mkv", "mkv", "mp4")),
        "bitrate": kbps + audio_kbps,
        "width": width,
        "height": height,
        "video_bitrate": kbps,
        "video_bit_depth": 10 if hevc else 8,
        "video_codec": "hevc" if hevc else "h264",
        "video_codec_level": "153" if hevc else "41",
        "video_width": width,
        "video_height": height,
        "video_resolution": resolution,
        "video_framerate": "24p" if not live else "30i",
        "video_scan_type": "progressive" if not live else "interlaced",
        "video_full_resolution": full if not live else full.replace("p", "i"),
        "video_dynamic_range": dynamic_range,
        "aspect_ratio": "1.78",
        "audio_bitrate": audio_kbps,
        "audio_codec": audio_codec,
        "audio_channels": channels,
        "audio_language": language,
        "audio_language_code": code,
    } | ({} if live else _subtitle(dice))


def _subtitle(dice: Dice) -> dict[str, Cell]:
    if dice.chance(0.6):
        return {}
    return {
        "subtitles": 1,
        "subtitle_codec": "srt",
        "subtitle_forced": int(dice.chance(0.1)),
        "subtitle_language": "Deutsch",
    }


def audio_file(dice: Dice) -> dict[str, Cell]:
    """Return the source columns of a track; its video columns stay ''."""
    kbps = dice.choice((320, 911, 1004))
    return {
        "container": "mp3" if kbps == 320 else "flac",  # noqa: PLR2004 - a bit rate
        "bitrate": kbps,
        # Tautulli appends the first letter of the scan type even to a missing resolution.
        "video_full_resolution": "p",
        "audio_bitrate": kbps,
        "audio_codec": "mp3" if kbps == 320 else "flac",  # noqa: PLR2004 - a bit rate
        "audio_channels": 2,
    }


def _direct_stream(file: Mapping[str, Cell]) -> dict[str, Cell]:
    # A direct stream has the same columns as its file.
    stream = {f"stream_{name}": value for name, value in file.items() if name != "subtitles"}
    known = {name: value for name, value in stream.items() if name in EMPTY_MEDIA_INFO}
    decisions: dict[str, Cell] = {"stream_audio_decision": "direct play"}
    if "video_codec" in file:
        decisions["stream_video_decision"] = "direct play"
    else:
        known["stream_video_full_resolution"] = ""
    return known | decisions


def _video_transcode(file: Mapping[str, Cell]) -> dict[str, Cell]:
    change = dict(_VIDEO_TRANSCODE)
    if int(file["height"] or 0) > _TARGET_HEIGHT:
        change |= _SHRINK
    if file.get("subtitles"):
        change["stream_subtitle_decision"] = "burn"
    return change


def streams(file: Mapping[str, Cell], rating_key: int, duration_ms: Cell) -> tuple[Stream, ...]:
    """Return all ways to stream the file, the most common first."""
    row = {**EMPTY_MEDIA_INFO, **file, "rating_key": rating_key, "duration": duration_ms}
    direct = row | _DIRECT | _direct_stream(file)
    kbps = int(file["bitrate"] or 0)
    ways = [Stream("Original", kbps, tuple(direct.values()))]
    if "video_codec" in file:
        ways.append(Stream("Original", kbps, tuple((direct | _REMUX).values())))
        ways.append(Stream("4 Mbps 720p", 4000, tuple((direct | _video_transcode(file)).values())))
    else:
        ways.append(Stream("256 kbps", 256, tuple((direct | _AUDIO_TRANSCODE).values())))
    return tuple(ways)
