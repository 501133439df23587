"""Run Dagster's webserver and the HTTP routes of an import.

`python -m tautulli_pipeline.serving.web HOST PORT` serves the Dagster instance in `DAGSTER_HOME`.
Pages of other sites are refused, and a password is asked for if one is set.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.cli import execute_query
from dagster_webserver.app import create_app_from_workspace_process_context

from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.orchestration.history import forget_history
from tautulli_pipeline.orchestration.names import Names, names_of_servers
from tautulli_pipeline.orchestration.workers import has_unfinished_runs
from tautulli_pipeline.serving import report_page
from tautulli_pipeline.serving.api import create_api
from tautulli_pipeline.serving.login import Login
from tautulli_pipeline.serving.paths import API
from tautulli_pipeline.serving.same_origin import LOOPBACK_NAMES, SameOrigin
from tautulli_pipeline.settings import Settings, load_standing_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_DEFINITIONS = ModuleTarget("tautulli_pipeline.definitions", None, str(Path.cwd()), None)
_LAUNCH: Final = """
mutation Launch($selector: JobOrPipelineSelector!, $config: RunConfigData!) {
  launchRun(executionParams: {selector: $selector, runConfigData: $config}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
_LOCATION: Final = {
    "repositoryLocationName": "tautulli_pipeline.definitions",
    "repositoryName": "__repository__",
}


@dataclass(frozen=True)
class DagsterRuns:
    """Starts runs of `import_job`, or of the job of a server, as the UI does."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def is_any_unfinished(self) -> bool:
        """Whether one is queued or running."""
        return any(has_unfinished_runs(self.instance, names.job) for names in names_of_servers())

    def launch(self, server: str, options: Mapping[str, object]) -> str:
        """Start one; return its id.

        Raises:
            PipelineError: Dagster refuses to start it.
        """
        names = Names(server)
        config = {"ops": {names.op: {"config": dict(options)}}}
        variables = {"selector": {**_LOCATION, "pipelineName": names.job}, "config": config}
        answer = execute_query(self.workspace, _LAUNCH, variables)
        launched = (answer.get("data") or {}).get("launchRun") or {"__typename": "no answer"}
        if launched["__typename"] != "LaunchRunSuccess":
            raise PipelineError(
                f"cannot start the import: {launched.get('message', launched['__typename'])}",
                hint=f"start {names.job} in the UI to see the cause",
            )
        return str(launched["run"]["runId"])

    def has_ended(self, run_id: str) -> bool:
        """Whether a run has ended."""
        run = self.instance.get_run_by_id(run_id)
        return run is None or run.is_finished


@dataclass(frozen=True)
class _Site:
    """Dagster's application, with the HTTP routes of an import and the report beside it."""

    dagster: ASGIApp
    api: ASGIApp
    report: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        ours = self.report if path == report_page.PATH else self.api
        is_ours = path == report_page.PATH or path.startswith(f"{API}/")
        await (ours if is_ours else self.dagster)(scope, receive, send)


def protected(site: ASGIApp, settings: Settings, host: str) -> ASGIApp:
    """Wrap an application in the login, if there is a password, and in `SameOrigin`."""
    password = settings.password
    hosts = {*LOOPBACK_NAMES, host, *settings.pipeline_allowed_hosts}
    return SameOrigin(Login(site, password) if password else site, hosts)


def main(host: str, port: int) -> None:
    """Serve the web UI until SIGTERM or SIGINT."""
    settings = load_standing_settings()
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(
            instance, workspace_load_target=_DEFINITIONS, code_server_log_level="warning"
        ) as workspace,
    ):
        site = _Site(
            create_app_from_workspace_process_context(workspace),
            create_api(DagsterRuns(instance, workspace), forget_history),
            report_page.ReportPage(settings.layout),
        )
        uvicorn.run(protected(site, settings, host), host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
