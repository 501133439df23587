"""Requests to the own webserver."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import orjson

from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.serving.paths import API

_TIMEOUT_SECONDS: Final = 60.0
_RELOAD: Final = "mutation { reloadWorkspace { __typename } }"
_LOADED: Final = """
query { repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }
"""


@dataclass(frozen=True)
class Webserver:
    """The webserver at `url`."""

    url: str
    password: str | None = None

    def answers(self) -> bool:
        """Whether it answers and has loaded the pipeline's definitions."""
        try:
            found = self._ask("/graphql", {"query": _LOADED})["data"]["repositoriesOrError"]
        except (OSError, HTTPException):  # it is starting or has exited
            return False
        return bool(found.get("nodes"))

    def reload(self) -> None:
        """Let it load the pipeline's definitions again.

        Raises:
            OSError: it does not answer.
            HTTPException: it answers something else.
        """
        self._ask("/graphql", {"query": _RELOAD})

    def start_import(self) -> str:
        """Start an import; return its run id.

        Raises:
            PipelineError: it cannot be started.
        """
        try:
            return str(self._ask(f"{API}/import/tautulli", {})["run_id"])
        except HTTPError as error:
            fault = orjson.loads(error.read())
            raise PipelineError(
                f"cannot start the import: {fault['error']}", hint=fault["hint"]
            ) from error

    def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self.password is not None:
            login = b64encode(f":{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        request = Request(  # noqa: S310 - our own address
            f"{self.url}{path}", data=orjson.dumps(question), headers=headers
        )
        with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own address
            facts: dict[str, Any] = orjson.loads(answer.read())
        return facts
