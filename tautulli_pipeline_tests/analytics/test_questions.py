"""The questions of docs/analytics.md are answered by their SQL."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.analytics.warehouses import built

PAGE = (Path(__file__).parents[2] / "docs" / "analytics.md").read_text()
QUESTIONS = re.findall(r"^([A-Z][^\n]+\?)\n\n```sql\n(.+?)```", PAGE, re.MULTILINE | re.DOTALL)
# The demo has no three episodes of one show in a row.
WITHOUT_ANSWER = {"Which shows make people binge?"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data directory with the analytics of the demo."""
    folder = tmp_path_factory.mktemp("questions")
    make_demo_database(folder / "tautulli.db", 3000)
    return built(folder / "tautulli.db", folder / "data")


def test_there_are_twenty_questions():
    assert len(QUESTIONS) >= 20
    assert len(QUESTIONS) == PAGE.count("```sql")


def test_every_question_has_an_answer(folder):
    with duckdb.connect(folder / "analytics.duckdb", read_only=True) as connection:
        unanswered = {q for q, sql in QUESTIONS if not connection.execute(sql).fetchall()}
    assert unanswered == WITHOUT_ANSWER
