"""What is asked of Dagster's webserver over HTTP."""

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
    """Whether the webserver answers and has the pipeline's definitions loaded."""
    try:
        found = _ask(url, _LOADED, {})["repositoriesOrError"]
    except (OSError, HTTPException):  # nobody listens yet, or no more
        return False
    return bool(found.get("nodes"))


def start_import(url: str) -> str:
    """Start `import_job` as a click in the UI would; gives the run's id.

    Raises:
        PipelineError: the webserver refuses.
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
    request = Request(  # noqa: S310 - our own address
        f"{url}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own address
        facts: dict[str, Any] = orjson.loads(answer.read())["data"]
    return facts
