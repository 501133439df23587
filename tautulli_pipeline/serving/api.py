"""The HTTP routes of an import: start, progress, stop, reset and validate.

Every answer is one JSON object: the progress, as `status --json` prints it, or an error with the
keys `error` and `hint`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, Final, Protocol

import orjson
from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException

from tautulli_pipeline.errors import (
    ConfigurationError,
    ImportRunningError,
    PipelineError,
    SourceError,
    StreamError,
    WarehouseError,
)
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.overview import summary_of
from tautulli_pipeline.imports.record import PENDING_SUMMARY, ImportLog, Status, log_of
from tautulli_pipeline.imports.reset import reset_progress
from tautulli_pipeline.imports.source_watch import require_readable
from tautulli_pipeline.imports.sources import resolve_source, servers_of
from tautulli_pipeline.imports.stopping import stop_running_import
from tautulli_pipeline.serving.paths import API
from tautulli_pipeline.settings import Settings, load_standing_settings
from tautulli_pipeline.source.address import Source

_BEGINS_WITHIN_SECONDS: Final = 30.0
# For the run of an import that has ended or was stopped.
_ENDS_WITHIN_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1
_STATUSES: Final[Mapping[type[PipelineError], HTTPStatus]] = {
    ImportRunningError: HTTPStatus.CONFLICT,
    ConfigurationError: HTTPStatus.BAD_REQUEST,
    SourceError: HTTPStatus.BAD_REQUEST,
    StreamError: HTTPStatus.SERVICE_UNAVAILABLE,
    WarehouseError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class ImportRuns(Protocol):
    """Runs of `import_job`, or of the job of a server."""

    def is_any_unfinished(self) -> bool:
        """Whether one is queued or running."""

    def launch(self, server: str, options: Mapping[str, object]) -> str:
        """Start one of a server with the given run config; return its id."""

    def has_ended(self, run_id: str) -> bool:
        """Whether a run has ended, whatever its result."""


_Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


class _Request(BaseModel):
    """A JSON object without unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: _Text | None = Field(
        default=None, description="The database to read. Defaults to IMPORT_DB_PATH."
    )

    server: _Text | None = Field(
        default=None,
        description="Its server id. Defaults to every server of `pipeline.toml`, or to "
        "IMPORT_SERVER_ID.",
    )


class ImportOptions(_Request):
    """What to import, and how."""

    resume: bool = Field(
        default=True,
        description="Resume an unfinished import and read only what is new. If false, every play "
        "is imported again; the table is kept.",
    )
    dry_run: bool = Field(default=False, description="Only report what an import would do.")


class OneServer(BaseModel):
    """Which server."""

    model_config = ConfigDict(extra="forbid", strict=True)

    server: _Text | None = Field(
        default=None, description="Its server id. Defaults to every server."
    )


class Duplicates(BaseModel):
    """Rows that are stored already, by the layer that noticed."""

    stream: int
    cache: int
    database: int


class Progress(BaseModel):
    """The running or last import."""

    model_config = ConfigDict(extra="allow")

    status: Status
    dry_run: bool
    import_id: str | None
    source: str | None
    server_id: str | None
    progress: float = Field(ge=0, le=100)
    total_records: int
    unchanged: int
    pending: int
    processed: int
    published: int
    imported: int
    duplicates: Duplicates
    rejected: int
    errors: int
    records_per_second: float
    elapsed_seconds: float
    upgrade_seconds: float
    estimated_remaining_seconds: float
    start_time: str | None
    end_time: str | None
    last_processed_id: int


class Fault(BaseModel):
    """What failed and what to do about it."""

    error: str
    hint: str


class Conflict(Fault):
    """Why it is impossible at the moment, with the progress of the running import."""

    progress: Progress | None = None


class _Answer(JSONResponse):
    """JSON that may hold any text of a database."""

    def render(self, content: object) -> bytes:
        return orjson.dumps(content)


_BAD: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Fault, "description": "The request or the database is not usable."},
}
_BUSY: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": Conflict, "description": "An import or a consumer is running."},
}
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "A password is set, and the request has none or a wrong one."},
    403: {"description": "The request has a foreign Host or Origin."},
    415: {"description": "The content type is not application/json."},
    500: {"model": Fault, "description": "The import failed."},
    503: {"model": Fault, "description": "The stream or the warehouse cannot be used."},
}


def create_api(runs: ImportRuns, forget_partitions: Callable[[Settings], int]) -> FastAPI:
    """Create the application that answers below `/api/v1`.

    Args:
        runs: starts imports.
        forget_partitions: removes the partitions of these settings from the history; returns
            their number.
    """
    starting, validating = threading.Lock(), threading.Lock()
    app = FastAPI(
        title="tautulli_pipeline",
        version=version("tautulli-pipeline"),
        description=__doc__.partition("\n\n")[2],
        openapi_url=f"{API}/openapi.json",
        # The pages of FastAPI load their scripts from the internet.
        docs_url=None,
        redoc_url=None,
        default_response_class=_Answer,
        responses=_REFUSED,
    )

    @app.post(f"{API}/import/tautulli", responses=_BAD | _BUSY)
    def start_import(options: Annotated[ImportOptions | None, Body()] = None) -> Progress:
        """Start or resume an import; return its progress once it has begun."""
        settings, options = load_standing_settings(), options or ImportOptions()
        chosen = servers_of(settings, options.server, options.source)
        # Of several servers, an unreadable one must not keep the others from being imported.
        sources = {one.server: _source(one, options) for one in chosen if len(chosen) == 1}
        first = chosen[0]
        log = log_of(first)
        with starting:
            _require_no_other(log, runs)
            for source in sources.values():
                require_readable(source, first.layout.snapshots)
            before = log.read()
            run_ids = [
                runs.launch(
                    one.server,
                    {
                        **({"source": str(sources[one.server])} if sources else {}),
                        "fresh": not options.resume,
                        "dry_run": options.dry_run,
                    },
                )
                for one in chosen
            ]
            run_id = run_ids[0]
            _await_begin(log, lambda: runs.has_ended(run_id))
        record = log.current()
        is_alone = len(run_ids) == 1
        if is_alone and not options.dry_run and record == before and runs.has_ended(run_id):
            raise PipelineError("the import could not begin", hint=f"see /runs/{run_id}")
        more = {} if is_alone else {"run_ids": run_ids}
        return _progress(first if is_alone else settings, run_id=run_id, **more)

    @app.get(f"{API}/import/status")
    def import_status() -> Progress:
        """Return the progress of the running or last import."""
        return _progress(load_standing_settings())

    @app.delete(f"{API}/import", responses=_BAD | _BUSY)
    def stop_import(options: Annotated[OneServer | None, Body()] = None) -> Progress:
        """Stop the running import after its current batch; it can be resumed."""
        settings, server = _chosen(options)
        if stop_running_import(ImportLock(settings.data_dir), server=server) is None:
            raise ImportRunningError(
                "no import is running",
                hint="there is nothing to stop",
                progress=summary_of(settings),
            )
        return _progress(settings)

    @app.delete(f"{API}/import/progress", responses=_BAD | _BUSY)
    def reset_import(options: Annotated[OneServer | None, Body()] = None) -> Progress:
        """Forget the saved progress; the table is kept."""
        settings, _ = _chosen(options)
        reset_progress(settings, lambda: forget_partitions(settings))
        return _progress(settings)

    @app.post(f"{API}/import/validate", responses=_BAD)
    def validate_source(options: Annotated[_Request | None, Body()] = None) -> dict[str, Any]:
        """Read the whole database and report what an import of it would do."""
        with validating:
            options = options or _Request()
            chosen = servers_of(load_standing_settings(), options.server, options.source)
            if len(chosen) > 1:
                ids = ", ".join(one.server for one in chosen)
                raise ConfigurationError("no server given", hint=f"name one of {ids} as `server`")
            return _findings(_source(chosen[0], options), chosen[0].server)

    app.add_exception_handler(RequestValidationError, _report_bad_request)
    app.add_exception_handler(HTTPException, _report_no_route)
    app.add_exception_handler(PipelineError, _report)
    return app


def _source(settings: Settings, options: _Request) -> Source:
    source = options.source or settings.import_db_path
    if source is None:
        raise ConfigurationError("no database given", hint="name it as `source`")
    return resolve_source(settings, source)


def _require_no_other(log: ImportLog, runs: ImportRuns) -> None:
    """Raise an `ImportRunningError` if another import runs or is queued."""
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    while log.lock.holder() is None:
        if not runs.is_any_unfinished():
            return
        if time.monotonic() > deadline:
            raise ImportRunningError(
                "another import is about to begin",
                hint="wait for it, or cancel its run in the UI",
                progress=_summary(log),
            )
        time.sleep(_POLL_SECONDS)
    raise log.running()


def _await_begin(log: ImportLog, has_ended: Callable[[], bool]) -> None:
    """Wait until the import has stored its record, or its run has ended."""
    deadline = time.monotonic() + _BEGINS_WITHIN_SECONDS
    while time.monotonic() < deadline and not has_ended():
        if log.lock.holder() and log.lock.has_recorded():
            return
        time.sleep(_POLL_SECONDS)


def _summary(log: ImportLog) -> dict[str, Any]:
    record = log.current()
    return record.summary() if record else PENDING_SUMMARY


def _progress(settings: Settings, **more: object) -> Progress:
    return Progress.model_validate(summary_of(settings) | more)


def _chosen(options: OneServer | None) -> tuple[Settings, str | None]:
    """Return the settings of the server that a request names, and its name in the file."""
    settings = load_standing_settings()
    if options is None or options.server is None:
        return settings, None
    (settings,) = settings.of_server(options.server)
    return settings, settings.server


def _findings(source: Source, server: str) -> dict[str, Any]:
    """Validate in a process of its own, which gives back its memory."""
    of_server = ("--server", server) if server else ()
    command = [sys.executable, "-m", "tautulli_pipeline", "validate", "--json", *of_server]
    command += ["--", str(source)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if not done.stdout:
        raise PipelineError(f"the validation of {source} was killed", hint="try it again")
    facts: dict[str, Any] = orjson.loads(done.stdout)
    if done.returncode == 0:
        return facts
    classes = {kind.exit_code: kind for kind in _STATUSES}
    raise classes.get(done.returncode, PipelineError)(facts["error"], hint=facts["hint"])


def _report(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PipelineError)
    statuses = (status for kind, status in _STATUSES.items() if isinstance(error, kind))
    return _Answer(error.facts, next(statuses, HTTPStatus.INTERNAL_SERVER_ERROR))


def _report_bad_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    why = f"{place}: {first['msg']}" if place else first["msg"]
    fault = {"error": f"the request is not usable: {why}", "hint": f"see {API}/openapi.json"}
    return _Answer(fault, HTTPStatus.BAD_REQUEST)


def _report_no_route(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    fault = {"error": error.detail, "hint": f"see {API}/openapi.json"}
    return _Answer(fault, error.status_code, headers=error.headers)
