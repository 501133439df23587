"""Plays by month in the metadata of a run."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from matplotlib.image import imread

from tautulli_pipeline.orchestration.pictures import NOTHING, picture_of_plays, plays_in_letters

TWO_MONTHS = [("2024-01", "movie", 30), ("2024-01", "track", 30), ("2024-03", "movie", 15)]


def pixels_of(markdown: str):
    before, data = markdown.rstrip(")").split("(data:image/png;base64,")
    assert before == "![Plays]"
    return imread(BytesIO(base64.b64decode(data)))


def coloured(picture, colour):
    """Columns of the picture in which a colour is seen above the legend."""
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    same = (abs(picture[60:, :, :3] - wanted) < 0.01).all(axis=2)
    return same.any(axis=0)


def test_a_picture_shows_each_kind_in_its_colour_and_the_month_without_plays():
    picture = pixels_of(picture_of_plays(TWO_MONTHS, "Plays"))
    assert picture.shape[:2] == (352, 924)
    movies, tracks = coloured(picture, "#4f43dd"), coloured(picture, "#f5a623")
    # Both months have movies with a gap between them; tracks stand on the first alone.
    edges = movies[1:] != movies[:-1]
    assert edges.sum() == 4
    assert tracks.any()
    assert not (tracks & ~movies).any()
    assert movies.sum() > 1.9 * tracks.sum()


@pytest.mark.parametrize("years", [1, 40])
def test_a_long_history_is_drawn_by_year(years):
    months = [(f"{1980 + n // 12}-{n % 12 + 1:02d}", f"kind-{n % 8}", 5) for n in range(12 * years)]
    assert pixels_of(picture_of_plays(months, "Plays")).shape[:2] == (352, 924)


def test_letters_show_the_same_at_no_cost():
    assert plays_in_letters(TWO_MONTHS).splitlines() == [
        "| month | plays | |",
        "|:--|--:|:--|",
        f"| 2024-01 | 60 | {'█' * 30} |",
        f"| 2024-03 | 15 | {'█' * 8} |",
    ]
    many = [(f"{2000 + n // 12}-{n % 12 + 1:02d}", "movie", 100) for n in range(48)]
    assert plays_in_letters(many).splitlines()[2:] == [
        f"| {year} | 1,200 | {'█' * 30} |" for year in range(2000, 2004)
    ]


def test_nothing_is_said_to_be_nothing():
    assert picture_of_plays([], "Plays") == plays_in_letters([]) == NOTHING
