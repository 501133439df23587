"""Requests to Dagster's webserver, answered by a test server."""

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
def test_a_webserver_is_ready_once_it_has_loaded_the_definitions(body, ready):
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
        (200, b'{"data": ', 4096),  # the answer is cut off
    ],
)
def test_a_failing_webserver_is_not_ready(status, body, length):
    with webserver(status, body, length=length) as (url, _):
        assert not answers(url)


def test_a_closed_port_is_not_ready():
    assert not answers(f"http://127.0.0.1:{free_port()}")


def test_start_import_launches_import_job_and_returns_its_run_id():
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
def test_a_refused_launch_is_an_error_with_the_address_of_the_ui(answer, why):
    with webserver(200, {"data": {"launchRun": answer}}) as (url, _):
        with pytest.raises(PipelineError) as caught:
            start_import(url)
        assert caught.value.message == f"cannot start the import: {why}"
        assert caught.value.hint == f"start import_job at {url}"
