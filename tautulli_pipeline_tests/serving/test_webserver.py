"""What is asked of Dagster's webserver, with a server of ours in its place."""

from __future__ import annotations

import pytest

from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.serving.webserver import answers, start_import
from tautulli_pipeline_tests.served import LOCATION, free_port
from tautulli_pipeline_tests.serving.answering import launched, webserver


def loaded(**found):
    return {"data": {"repositoriesOrError": found}}


@pytest.mark.parametrize(
    ("body", "ready"),
    [
        (loaded(nodes=[{"name": "__repository__"}]), True),
        (loaded(nodes=[]), False),
        (loaded(), False),  # the definitions do not load
    ],
)
def test_a_webserver_answers_once_it_has_the_definitions(body, ready):
    with webserver(200, body) as (url, asked):
        assert answers(url) is ready
    ((path, kind, question),) = asked
    assert (path, kind) == ("/graphql", "application/json")
    assert "repositoriesOrError" in question["query"]


@pytest.mark.parametrize(
    ("status", "body", "length"),
    [
        (500, {"errors": ["starting"]}, None),
        (502, b"Bad Gateway", None),
        (200, b'{"data": ', 4096),  # it died in the middle of its answer
    ],
)
def test_a_webserver_in_trouble_does_not_answer_yet(status, body, length):
    with webserver(status, body, length=length) as (url, _):
        assert not answers(url)


def test_where_nobody_listens_nobody_answers():
    assert not answers(f"http://127.0.0.1:{free_port()}")


def test_an_import_is_started_as_a_click_would_and_its_run_named():
    with webserver(200, launched("r-1")) as (url, asked):
        assert start_import(url) == "r-1"
    ((_, _, question),) = asked
    selector = question["variables"]["selector"]
    assert selector == {**LOCATION, "pipelineName": "import_job"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"__typename": "PythonError", "message": "no such thing"}, "no such thing"),
        ({"__typename": "RunConfigValidationInvalid"}, "RunConfigValidationInvalid"),
    ],
)
def test_a_refusal_is_told_with_where_a_person_can_start_it(answer, why):
    with webserver(200, {"data": {"launchRun": answer}}) as (url, _):
        with pytest.raises(PipelineError) as caught:
            start_import(url)
        assert caught.value.message == f"cannot start the import: {why}"
        assert caught.value.hint == f"start import_job at {url}"
