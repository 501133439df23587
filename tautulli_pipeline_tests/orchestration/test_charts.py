"""Plays by month in the metadata of a run."""

from __future__ import annotations

from tautulli_pipeline.orchestration.charts import NOTHING, chart_of_plays

TWO_MONTHS = [("2024-01", 60), ("2024-03", 15)]


def test_each_month_has_a_bar_for_its_plays():
    assert chart_of_plays(TWO_MONTHS).splitlines() == [
        "| month | plays | |",
        "|:--|--:|:--|",
        f"| 2024-01 | 60 | {'█' * 30} |",
        f"| 2024-03 | 15 | {'█' * 8} |",
    ]


def test_a_long_history_is_shown_by_year():
    many = [(f"{2000 + n // 12}-{n % 12 + 1:02d}", 100) for n in range(48)]
    assert chart_of_plays(many).splitlines()[2:] == [
        f"| {year} | 1,200 | {'█' * 30} |" for year in range(2000, 2004)
    ]
    assert chart_of_plays(many[:36]).startswith("| month |")


def test_without_plays_there_is_no_chart():
    assert chart_of_plays([]) == NOTHING
