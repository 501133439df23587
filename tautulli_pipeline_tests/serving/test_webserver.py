"""Requests to Dagster's webserver, answered by a test server."""

from __future__ import annotations

import pytest

from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.serving.webserver import Webserver
from tautulli_pipeline_tests.served import free_port
from tautulli_pipeline_tests.serving.answering import started, webserver


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
        assert Webserver(url).answers() is ready
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
        assert not Webserver(url).answers()


def test_a_closed_port_is_not_ready():
    assert not Webserver(f"http://127.0.0.1:{free_port()}").answers()


def test_start_import_posts_to_the_api_and_returns_its_run_id():
    with webserver(200, started("r-1")) as (url, asked):
        assert Webserver(url).start_import() == "r-1"
    ((path, kind, question),) = asked
    assert (path, kind, question) == ("/api/v1/import/tautulli", "application/json", {})


def test_a_refused_import_is_an_error_with_its_hint():
    with webserver(400, {"error": "no database given", "hint": "name it"}) as (url, _):
        with pytest.raises(PipelineError) as caught:
            Webserver(url).start_import()
        assert caught.value.message == "cannot start the import: no database given"
        assert caught.value.hint == "name it"
