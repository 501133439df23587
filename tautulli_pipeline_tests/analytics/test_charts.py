"""Charts are pictures of a size that fits the page."""

from __future__ import annotations

import base64

import pytest

from tautulli_pipeline.analytics.charts import draw_charts
from tautulli_pipeline_tests.analytics.warehouses import built, opened
from tautulli_pipeline_tests.cases import make_database, play

CHARTED = {"plays", "plays_by_month", "streams_by_day", "heatmap", "top_movies", "top_shows"}


def episode(number, title):
    return play(number, media_type="episode", grandparent_title=title, full_title=title)


@pytest.mark.parametrize(
    ("plays", "tables"),
    [
        ([], set()),
        ([play(1)], CHARTED - {"top_shows"}),
        ([play(1), episode(2, "千と千尋 $1 $2 🎬"), play(3, started=1_200_000_000)], CHARTED),
    ],
)
def test_every_table_with_rows_has_its_chart(tmp_path, plays, tables):
    make_database(tmp_path / "tautulli.db", plays=plays)
    with opened(built(tmp_path / "tautulli.db", tmp_path / "data")) as connection:
        charts = draw_charts(connection)
    assert charts.keys() == tables
    for chart in charts.values():
        picture = base64.b64decode(chart.partition("base64,")[2].removesuffix(")"))
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000
