"""The report of the data directory as a page of `up`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio
from starlette.responses import FileResponse, PlainTextResponse

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.reporting.report import is_outdated, write_report

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PATH: Final = "/report"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MISSING: Final = "There is no report yet. Import a database first.\n"

_log = logging.getLogger(__name__)


class ReportPage:
    """Serves the report, and writes it first if it is older than the statistics.

    Imports of the command line build the statistics without the report.
    """

    def __init__(self, layout: DataDir) -> None:
        self._layout = layout
        self._writing = anyio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the report, or with 404 if there is none."""
        async with self._writing:
            if is_outdated(self._layout):
                await anyio.to_thread.run_sync(self._write)
        page = FileResponse(self._layout.report, media_type="text/html", headers=_HEADERS)
        missing = PlainTextResponse(_MISSING, status_code=404)
        await (page if self._layout.report.is_file() else missing)(scope, receive, send)

    def _write(self) -> None:
        try:
            write_report(self._layout.analytics, self._layout.report, empty_allowed=True)
        except PipelineError as error:
            _log.warning("the report could not be written: %s", error)
