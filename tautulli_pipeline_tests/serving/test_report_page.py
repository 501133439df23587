"""The page `/report` of `up`."""

from __future__ import annotations

import os

import pytest

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.serving.report_page import ReportPage
from tautulli_pipeline_tests.cases import play
from tautulli_pipeline_tests.reporting.histories import data_dir_with
from tautulli_pipeline_tests.serving.sites import on_a_server, send


@pytest.fixture
def data_dir(tmp_path):
    return data_dir_with([play(1)], tmp_path)


def test_the_report_is_written_if_it_is_missing_or_older_than_the_statistics(data_dir):
    file = data_dir / "report.html"
    with on_a_server(ReportPage(DataDir(data_dir))) as port:
        answer = send(port, "GET", "/report")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "1 play on 15 Nov 2023" in answer.text
        file.write_text("current")
        assert send(port, "GET", "/report").text == "current"
        os.utime(file, (0, 0))
        assert send(port, "GET", "/report").text == answer.text


@pytest.mark.parametrize("has_statistics", [False, True])
def test_without_statistics_or_plays_there_is_no_report(tmp_path, has_statistics):
    data_dir = data_dir_with([], tmp_path) if has_statistics else tmp_path
    with on_a_server(ReportPage(DataDir(data_dir))) as port:
        answer = send(port, "GET", "/report")
    assert (answer.status, answer.text[:24]) == (404, "There is no report yet. ")
