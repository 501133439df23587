"""Numbers, dates and names as readers see them."""

from __future__ import annotations

from datetime import date

import pytest

from tautulli_pipeline.reporting.wording import (
    count,
    date_of,
    duration,
    in_days,
    named,
    percent,
    span_of,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (36_000, "10 h"),
        (4_444_444, "1,235 h"),
    ],
)
def test_a_duration_has_the_units_that_matter(seconds, words):
    assert duration(seconds) == words


def test_numbers_are_grouped_and_shares_never_look_like_nothing_or_all():
    assert (count(1, "play"), count(12_345, "play")) == ("1 play", "12,345 plays")
    shares = [percent(part, 1000) for part in (0, 1, 500, 999, 1000)]
    assert shares == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]
    assert (in_days(3600), in_days(1_000_000)) == ("", "11.6 days")


def test_a_date_reads_the_same_in_every_country():
    assert date_of(date(2024, 5, 4)) == "4 May 2024"
    assert span_of(date(2024, 5, 4), date(2024, 5, 4)) == "on 4 May 2024"
    assert span_of(date(2024, 5, 4), date(2025, 1, 1)) == "from 4 May 2024 to 1 Jan 2025"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "unknown"),
        (" \t ", r"\t"),
        ("<b>'\"&", "&lt;b&gt;&#39;&#34;&amp;"),
        ("a\u202eb\x00", r"a\u202eb\x00"),
        ("x" * 200, "x" * 119 + "…"),
        ("Z" + "\u0301" * 50 + "a", "Z" + "\u0301" * 4 + "a"),
        ("👨\u200d👩\u200d👧 שָׁלוֹם", "👨\u200d👩\u200d👧 שָׁלוֹם"),
    ],
)
def test_a_name_is_escaped_of_limited_size_and_keeps_its_direction(name, shown):
    assert str(named(name)) == f"<bdi>{shown}</bdi>"
