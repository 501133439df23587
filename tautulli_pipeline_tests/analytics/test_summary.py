"""The sums over all plays, in a sentence."""

from __future__ import annotations

from datetime import datetime

import pytest

from tautulli_pipeline.analytics.build import build
from tautulli_pipeline.analytics.summary import Summary, read_summary, write_summary
from tautulli_pipeline.cli.status import print_found
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline_tests.analytics.warehouses import built, request_for
from tautulli_pipeline_tests.cases import make_database, play

NEWEST = datetime(2023, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [
        (Summary(0, 0, 0, None), "there are no plays yet"),
        (Summary(1, 1, 7200, NEWEST), "there is 1 play, which started on 5 Apr 2023, 06:07"),
        (Summary(2, 1, 60, NEWEST), "there are 2 plays; the newest started on 5 Apr 2023, 06:07"),
        (
            Summary(40_001, 12, 31_204 * 3600, NEWEST),
            "there are 40,001 plays by 12 people in 31,204 hours; "
            "the newest started on 5 Apr 2023, 06:07",
        ),
    ],
)
def test_a_summary_is_one_sentence(summary, sentence):
    assert summary.sentence == sentence


def test_a_build_keeps_the_summary_in_local_time(tmp_path, capsys):
    make_database(tmp_path / "tautulli.db", plays=[play(1), play(2)])
    data_dir = built(tmp_path / "tautulli.db", tmp_path / "data", "Asia/Tokyo")
    layout = DataDir(data_dir)
    assert read_summary(layout) == Summary(2, 1, 7200, datetime(2023, 11, 15, 12, 46, 40))
    print_found(layout, "PIPELINE_DATA_DIR=x ")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "there are 2 plays in 2 hours; the newest started on 15 Nov 2023, 12:46",
        "charts        PIPELINE_DATA_DIR=x tautulli-pipeline report --open",
        "Dagster's UI  PIPELINE_DATA_DIR=x tautulli-pipeline up",
        "SQL           PIPELINE_DATA_DIR=x tautulli-pipeline query 'SHOW TABLES'",
    ]
    build(request_for(data_dir, "UTC"))
    assert read_summary(layout) == Summary(2, 1, 7200, datetime(2023, 11, 15, 3, 46, 40))


def test_the_commands_of_the_demo_fit_in_80_columns(tmp_path, capsys):
    write_summary(DataDir(tmp_path), Summary(300, 12, 182 * 3600, datetime(2016, 9, 12, 13, 59)))
    print_found(DataDir(tmp_path), "PIPELINE_DATA_DIR=demo-data ")
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split(maxsplit=1) == [
        "SQL",
        "PIPELINE_DATA_DIR=demo-data tautulli-pipeline query 'SHOW TABLES'",
    ]


def test_without_a_build_nothing_is_said(tmp_path, capsys):
    print_found(DataDir(tmp_path))
    (tmp_path / "summary.json").write_text("{}")
    print_found(DataDir(tmp_path))
    assert capsys.readouterr().out == ""
