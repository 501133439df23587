"""Cells of thousands to millions of characters, imported with the real programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import imported, query

if TYPE_CHECKING:
    from pathlib import Path


def test_huge_texts_are_rejected_by_name_and_ordinary_plays_are_imported(
    tmp_path: Path, data_dir: Path
) -> None:
    path = tmp_path / "tautulli.db"
    sizes = {4: 1_000_000, 8: 5_000_000, 12: 8_300_000, 16: 30_000_000}
    texts = {n: "é" * (sizes.get(n, 10) // 2) for n in range(1, 21)}
    make_database(path, plays=[play(n, summary=text) for n, text in texts.items()])
    summary = imported(path, data_dir=data_dir)
    assert (summary["imported"], summary["rejected"]) == (19, 1)
    stored = query(data_dir, "SELECT source_row_id, length(summary) FROM playback_events")
    assert dict(stored) == {n: len(text) for n, text in texts.items() if n != 16}
    ((row_id, reason, size),) = query(
        data_dir, "SELECT source_row_id, reason, strlen(record::VARCHAR) FROM dead_letters"
    )
    assert (row_id, size < 2**16) == (16, True)
    assert "set by max_payload 8388608 of the stream server" in reason


def test_a_media_type_of_thousands_of_characters_is_imported(
    tmp_path: Path, data_dir: Path
) -> None:
    path = tmp_path / "tautulli.db"
    long = "A long summary of the plot. " * 180
    make_database(path, plays=[play(1), play(2, media_type=long)])
    assert imported(path, data_dir=data_dir)["imported"] == 2
    assert query(data_dir, "SELECT media_type FROM playback_events ORDER BY source_row_id") == [
        ("movie",),
        (long,),
    ]
