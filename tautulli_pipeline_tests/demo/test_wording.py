"""Made-up texts are mostly plain, sometimes awkward, and reproducible."""

from __future__ import annotations

import re

from tautulli_pipeline.demo import wording
from tautulli_pipeline.demo.dice import Dice

COUNT = 3000


def many(make, seed=1):
    dice = Dice(seed)
    return [make(dice) for _ in range(COUNT)]


def test_about_one_title_in_twelve_is_awkward():
    titles = many(wording.title)
    plain = [title for title in titles if re.fullmatch(r"The \w+ \w+", title)]
    awkward = set(titles) - set(plain)
    assert 1 / 18 < 1 - len(plain) / COUNT < 1 / 8
    assert len(set(plain)) > 300
    assert {"null", "Two\nLines", "  Padded  ", "Robert'); DROP TABLE plays;--"} < awkward
    assert len(awkward) == 12


def test_no_title_is_blank():
    assert all(title.strip() for title in many(wording.title))


def test_a_summary_has_200_to_600_characters_without_surrounding_spaces():
    summaries = many(wording.summary)
    lengths = [len(text) for text in summaries]
    assert 200 <= min(lengths) < 220
    assert 500 < max(lengths) <= 600
    assert all(text == text.strip() and "  " not in text for text in summaries)


def test_people_returns_the_requested_number_of_full_names():
    crews = [crew.split(";") for crew in many(lambda dice: wording.people(dice, 2, 4))]
    assert {len(crew) for crew in crews} == {2, 3, 4}
    assert all(len(name.split(" ")) == 2 for crew in crews for name in crew)


def test_genres_returns_one_to_three_different_genres():
    lists = [found.split(";") for found in many(wording.genres)]
    assert {len(found) for found in lists} == {1, 2, 3}
    assert all(len(set(found)) == len(found) for found in lists)
    assert {genre for found in lists for genre in found} == set(wording.GENRES)


def test_the_same_seed_produces_the_same_words():
    for make in (wording.title, wording.person, wording.summary, wording.genres):
        assert many(make, 5) == many(make, 5) != many(make, 6)
