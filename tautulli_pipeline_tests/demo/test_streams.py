"""Every stream of a made-up file has consistent video and audio columns."""

from __future__ import annotations

import pytest

from tautulli_pipeline.demo.dice import Dice
from tautulli_pipeline.demo.rows import MEDIA_INFO_COLUMNS
from tautulli_pipeline.demo.streams import audio_file, streams, video_file

NAMES = MEDIA_INFO_COLUMNS[1:]


def files(make, **options):
    dice = Dice(11)
    return [make(dice, **options) for _ in range(200)]


def ways_of(file):
    """Return the streams of a file and their rows by column, the most common first."""
    ways = streams(file, 77, 5_400_000)
    return ways, [dict(zip(NAMES, way.media_info, strict=True)) for way in ways]


VIDEOS = [*files(video_file), *files(video_file, live=True)]


def test_a_video_has_direct_play_remux_and_transcode():
    for file in VIDEOS:
        ways, rows = ways_of(file)
        assert [row["transcode_decision"] for row in rows] == ["direct play", "copy", "transcode"]
        assert [way.quality_profile for way in ways] == ["Original", "Original", "4 Mbps 720p"]
        assert [way.bitrate_kbps for way in ways] == [file["bitrate"], file["bitrate"], 4000]


def test_every_stream_has_the_columns_of_the_file():
    for file in [*VIDEOS, *files(audio_file)]:
        for row in ways_of(file)[1]:
            assert {name: row[name] for name in file} == file
            assert (row["rating_key"], row["duration"]) == (77, 5_400_000)


def test_direct_play_and_remux_keep_codec_size_and_bit_rate():
    for file in VIDEOS:
        direct, remuxed, _ = ways_of(file)[1]
        for name in ("video_codec", "audio_codec", "bitrate", "video_height", "video_resolution"):
            assert direct[f"stream_{name}"] == remuxed[f"stream_{name}"] == file[name]
        assert direct["stream_container"] == file["container"]
        assert remuxed["stream_container"] == remuxed["transcode_container"] == "mp4"
        assert direct["transcode_container"] == direct["transcode_protocol"] == ""


def test_a_transcoded_video_is_scaled_down_to_720_lines_but_never_up():
    heights = set()
    for file in VIDEOS:
        transcoded = ways_of(file)[1][2]
        height = min(720, file["height"])
        assert transcoded["stream_video_height"] == height
        assert (transcoded["transcode_height"] == 720) is (file["height"] > 720)
        assert transcoded["stream_video_codec"] == transcoded["transcode_video_codec"] == "h264"
        heights.add(file["height"])
    assert heights == {480, 720, 1080, 2160}


def test_subtitles_are_burned_in_if_present():
    with_subtitles = [file for file in VIDEOS if file.get("subtitles")]
    assert 0 < len(with_subtitles) < len(VIDEOS)
    for file in VIDEOS:
        decision = ways_of(file)[1][2]["stream_subtitle_decision"]
        assert (decision == "burn") is bool(file.get("subtitles"))


def test_only_broadcasts_are_interlaced_and_they_have_no_subtitles():
    for file in files(video_file, live=True):
        assert (file["container"], file["video_scan_type"]) == ("mpegts", "interlaced")
        assert "subtitles" not in file
        assert file["height"] <= 1080
    assert {file["video_scan_type"] for file in files(video_file)} == {"progressive"}


def test_a_track_has_no_video_columns():
    for file in files(audio_file):
        ways, rows = ways_of(file)
        assert [row["transcode_decision"] for row in rows] == ["direct play", "transcode"]
        assert [row["stream_audio_codec"] for row in rows] == [file["audio_codec"], "mp3"]
        assert ways[1].bitrate_kbps == rows[1]["stream_bitrate"] == 256
        for row in rows:
            assert {row[name] for name in ("video_codec", "stream_video_codec", "width")} == {""}
            assert row["video_full_resolution"] == "p"
            assert row["stream_video_full_resolution"] == ""


@pytest.mark.parametrize("name", ["container", "audio_codec"])
def test_a_track_is_lossy_at_its_low_rate_and_lossless_above(name):
    assert {(file["bitrate"], file[name]) for file in files(audio_file)} == {
        *((320, "mp3"), (911, "flac"), (1004, "flac")),
    }
