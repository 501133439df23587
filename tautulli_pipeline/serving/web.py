"""Run Dagster's webserver, protected against the pages of other sites.

`python -m tautulli_pipeline.serving.web HOST PORT` serves the Dagster instance in `DAGSTER_HOME`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_webserver.app import create_app_from_workspace_process_context

from tautulli_pipeline.serving.same_origin import SameOrigin

_DEFINITIONS = ModuleTarget("tautulli_pipeline.definitions", None, str(Path.cwd()), None)


def main(host: str, port: int) -> None:
    """Serve the web UI until SIGTERM or SIGINT."""
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(
            instance, workspace_load_target=_DEFINITIONS, code_server_log_level="warning"
        ) as workspace,
    ):
        app = create_app_from_workspace_process_context(workspace)
        uvicorn.run(SameOrigin(app), host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
