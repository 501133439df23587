"""Requests to Dagster's webserver."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any, Final
from urllib.request import Request, urlopen

import orjson

from tautulli_pipeline.errors import PipelineError

_TIMEOUT_SECONDS: Final = 60.0
_LAUNCH: Final = """
mutation Launch($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_LOADED: Final = """
query { repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }
"""
_SELECTOR: Final = {
    "repositoryLocationName": "tautulli_pipeline.definitions",
    "repositoryName": "__repository__",
    "pipelineName": "import_job",
}


def answers(url: str) -> bool:
    """Whether the webserver answers and has loaded the pipeline's definitions."""
    try:
        found = _ask(url, _LOADED, {})["repositoriesOrError"]
    except (OSError, HTTPException):  # it is starting or has exited
        return False
    return bool(found.get("nodes"))


def start_import(url: str) -> str:
    """Launch `import_job` as the UI does; return the run id.

    Raises:
        PipelineError: the webserver refused to launch it.
    """
    answer = _ask(url, _LAUNCH, {"selector": _SELECTOR})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise PipelineError(
            f"cannot start the import: {answer.get('message', answer['__typename'])}",
            hint=f"start import_job at {url}",
        )
    return str(answer["run"]["runId"])


def _ask(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    body = orjson.dumps({"query": query, "variables": variables})
    request = Request(  # noqa: S310 - a local address
        f"{url}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - a local address
        facts: dict[str, Any] = orjson.loads(answer.read())["data"]
    return facts
