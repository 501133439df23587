"""What a report says, and what it leaves out."""

from __future__ import annotations

import re
from html import unescape

import pytest

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.reporting.report import default_file, write_report
from tautulli_pipeline_tests.cases import play
from tautulli_pipeline_tests.reporting.histories import (
    DAY,
    OTHER,
    USERS,
    data_dir_with,
    episode,
    live,
    track,
)

OTHERS = {"user_id": 2_000_002, "user": "other-account"}
# Two people in two years. Only the other one plays `Hidden`, on `Secret` players.
PLAYS = [
    *(episode(n, "The Show", started=1_640_000_000 + n * 3000) for n in range(1, 13)),
    *(play(n, started=1_672_600_000 + n * DAY) for n in range(20, 45)),
    *(
        episode(
            n,
            "Hidden Show",
            started=1_672_600_000 + n * 3000,
            platform="Secret",
            player="Secret",
            **OTHERS,
        )
        for n in range(60, 90)
    ),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return data_dir_with(PLAYS, tmp_path_factory.mktemp("two-people"))


def text_of(html):
    body = re.sub(r"<(style|title)>.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def html(data_dir):
    """The report of everybody and all years."""
    return report_of(data_dir)


def report_of(data_dir, **options):
    file = default_file(data_dir)
    write_report(data_dir / "analytics.duckdb", file, **options)
    return file.read_text()


def headings(html):
    return [text_of(found).strip() for found in re.findall(r"<h3>(.*?)</h3>", html, re.DOTALL)]


def test_a_report_reviews_the_newest_year_and_shows_all_years(html):
    text = text_of(html)
    assert "67 plays by 2 people from 20 Dec 2021 to 14 Feb 2023" in text
    for words in (
        "2023 in review",
        "All years",
        "Longest binge 30 episodes Hidden Show by Rosalind <b>Other</b>",
        "2021 12 h 12 1 The Show",
        "The Show 12 h 12 plays",
    ):
        assert words in text, words


def test_a_report_of_a_year_counts_only_its_plays(data_dir):
    html = report_of(data_dir, year=2021)
    text = text_of(html)
    assert "2021 in review 12 plays on 20 Dec 2021" in text
    assert "Hidden" not in html
    assert "All years" not in text


def test_a_report_of_a_person_holds_nothing_of_others(data_dir):
    html = report_of(data_dir, user="MIRA")
    assert "37 plays from 20 Dec 2021" in text_of(html)
    for word in ("Rosalind", "Other", "other-account", "Hidden", "Secret", "same time", "Mbit/s"):
        assert word not in html, word


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"year": 1999}, "there are no plays in 1999", "there are plays in 2021, 2023"),
        (
            {"year": 2021, "user": OTHER},
            f"there are no plays of {OTHER} in 2021",
            "there are plays in 2023",
        ),
        ({"user": "mirra"}, "there are no plays of 'mirra'", "there are plays of Mira, ..."),
        # An empty variable of a script must not show everybody to one person.
        ({"user": ""}, "there are no plays of ''", f"there are plays of Mira, {OTHER}"),
        ({"user": "%"}, "there are no plays of '%'", f"there are plays of Mira, {OTHER}"),
    ],
)
def test_a_year_or_person_without_plays_is_refused_with_those_that_have_some(
    data_dir, tmp_path, options, message, hint
):
    with pytest.raises(ConfigurationError) as raised:
        write_report(data_dir / "analytics.duckdb", tmp_path / "report.html", **options)
    assert (raised.value.message, raised.value.hint) == (message, hint)
    assert not (tmp_path / "report.html").exists()


def test_a_database_without_plays_is_refused(tmp_path):
    data_dir = data_dir_with([], tmp_path)
    with pytest.raises(ConfigurationError, match="there are no plays in"):
        report_of(data_dir)


@pytest.mark.parametrize(
    ("plays", "shown", "absent"),
    [
        (
            [play(1)],
            ["1 play on 15 Nov 2023", "The film Film 1 (2001) 1 h, 1 play"],
            ["<svg", "Busiest", "People", "titles", "most"],
        ),
        (
            [play(1), play(2)],
            ["2 plays on 15 Nov 2023", "Films by time watched. Film 1 (2001) 1 h 1 play"],
            ["<svg", "Busiest", "People", "most"],
        ),
        (
            [track(n, "Björk", started=1_700_000_000 + n * DAY) for n in range(1, 40)],
            ["The artist Björk", "Plays by day of the week and hour", "Minutes played in each day"],
            ["film.", "show.", "People", "who", "same time", "transcoded"],
        ),
        (  # no time is known
            [play(n, stopped=1_700_000_000 + 10_000 * n) for n in range(1, 5)],
            ["4 plays", "Films by plays. Film 1 (2001) 1 play"],
            ["Time played 0", "0 s", "Busiest", "<svg"],
        ),
        (  # as much of everything, so that nothing is the most of all
            [play(n, started=1_680_000_000 + n * 2 * (DAY + 3600)) for n in range(1, 30)],
            ["29 plays", "Minutes played in each", "up to 12 Mbit/s together."],
            ["Busiest", "busiest", "most", "Films by time", "strongest colour"],
        ),
        (  # live TV is neither a film nor a show
            [
                *(live(n, "News", started=1_700_000_000 + n * DAY) for n in range(1, 9)),
                live(9, "Football", started=1_700_000_000),
                episode(10, "Lost", started=1_700_000_000),
            ],
            ["News is the most watched programme. Live TV by time watched.", "The show Lost"],
            ["film", "Films", "show."],
        ),
        (  # the newest year has begun a day ago
            [*(play(n, started=1_640_000_000 + n * 3000) for n in range(9)), play(10)],
            ["2023 in review 1 play on 16 Nov 2023", "All years"],
            [],
        ),
    ],
)
def test_what_has_no_meaning_is_left_out(tmp_path, plays, shown, absent):
    html = report_of(data_dir_with(plays, tmp_path, USERS))
    text = text_of(html).partition("Days and hours are those of")[0]
    for words in shown:
        assert words in text, words
    for words in absent:
        assert words not in (html if words.startswith("<") else text), words


def test_a_clock_that_was_wrong_once_does_not_stretch_the_chart(tmp_path):
    plays = [play(n, started=1_600_000_000 + n * 40 * DAY) for n in range(1, 30)]
    html = report_of(data_dir_with([*plays, play(30, started=-62_000_000_000)], tmp_path, USERS))
    assert "30 plays" in text_of(html)
    assert "Plays that started in each year." in text_of(html)
    assert len(html) < 100_000


@pytest.mark.parametrize("name", ["other-account", " OTHER-account", f" {OTHER.lower()} "])
def test_a_person_is_found_by_login_and_in_any_case(data_dir, name):
    text = text_of(report_of(data_dir, user=name))
    assert f"{OTHER} Play history 30 plays from 3 Jan 2023" in text


def test_a_name_that_is_shown_comes_before_a_login(tmp_path):
    users = [
        {"user_id": 2_000_001, "username": "sam", "friendly_name": "Robin"},
        {"user_id": 2_000_002, "username": "robin", "friendly_name": "Sam"},
        {"user_id": 2_000_003, "username": "sam", "friendly_name": "S" * 4000},
    ]
    plays = [play(n, user_id=2_000_000 + n, user=users[n - 1]["username"]) for n in (1, 2, 3)]
    (tmp_path / "two").mkdir()
    data_dir = data_dir_with(plays, tmp_path, users)
    assert "Robin Play history 1 play" in text_of(report_of(data_dir, user="robin"))
    with pytest.raises(ConfigurationError) as raised:
        report_of(data_dir, user="nobody")
    assert len(raised.value.hint) < 200
    plays = [play(1), play(2, user_id=2_000_003, user="mira")]
    two = [{"user_id": user_id, "username": "mira"} for user_id in (2_000_001, 2_000_003)]
    with pytest.raises(ConfigurationError, match="'mira' is the name of several people"):
        report_of(data_dir_with(plays, tmp_path / "two", two), user="mira")


def test_a_report_replaces_an_older_one_and_is_private_to_its_owner(data_dir, html, tmp_path):
    file = tmp_path / "shown.html"
    file.write_text("old")
    file.chmod(0o644)
    write_report(data_dir / "analytics.duckdb", file)
    assert file.read_text() == html  # the same plays give the same bytes
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_bytes()) < 1_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["shown.html"]


def test_a_file_that_cannot_be_written_is_reported(data_dir, tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot write the report .* No such file"):
        write_report(data_dir / "analytics.duckdb", tmp_path / "none" / "report.html")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "report.html"),
        ({"year": 2024}, "report-2024.html"),
        ({"user": 'Pat "The" O\'Brien/../x'}, "report-pat-the-o-brien-x.html"),
        ({"year": 2024, "user": "Élodie"}, "report-2024-élodie.html"),
        ({"user": "///"}, "report-.html"),
    ],
)
def test_a_report_of_a_year_or_a_person_has_a_file_of_its_own(tmp_path, options, name):
    assert default_file(tmp_path, **options) == tmp_path / name


def test_every_chart_has_a_sentence_for_those_who_cannot_see_it(html):
    described = re.findall(r'<svg role="img" aria-label="([^"]+)"', html)
    assert len(described) >= 4
    assert {unescape(words) for words in described} <= set(headings(html))


def test_charts_say_when_the_most_was_played(html):
    assert {
        "4 Jan 2023 has the most time played: 26 h.",
        "The week from 2 Jan 2023 has the most plays: 30.",
    } <= set(headings(html))
