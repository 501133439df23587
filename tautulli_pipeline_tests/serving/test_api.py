"""The HTTP routes of an import, on a real HTTP server. `test_serving.py` has real imports."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline.serving import api
from tautulli_pipeline.serving.api import create_api
from tautulli_pipeline.serving.same_origin import SameOrigin
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.serving.sites import JSON, on_a_server, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START, STATUS = ("POST", "/api/v1/import/tautulli"), ("GET", "/api/v1/import/status")
STOP, RESET = ("DELETE", "/api/v1/import"), ("DELETE", "/api/v1/import/progress")
VALIDATE = ("POST", "/api/v1/import/validate")


@dataclass
class CompletedRuns:
    """Runs that complete at once, without importing anything."""

    log: ImportLog
    source: Path
    launched: list[Mapping[str, object]] = field(default_factory=list)
    unfinished: bool = False
    records: bool = True

    def is_any_unfinished(self) -> bool:
        return self.unfinished

    def launch(self, _server: str, options: Mapping[str, object]) -> str:
        self.launched.append(options)
        if self.records:
            began = ImportRecord.begin(self.source, "default", fresh=bool(options["fresh"]))
            self.log.write(began.ended(Status.COMPLETED))
        return f"run-{len(self.launched)}"

    def has_ended(self, _run_id: str) -> bool:
        return True


@dataclass
class Site:
    port: int
    runs: CompletedRuns
    log: ImportLog
    database: Path

    def send(self, route: tuple[str, str], body: object = None, **headers: str) -> Any:
        text = body if isinstance(body, str) else None if body is None else json.dumps(body)
        return send(self.port, *route, text, JSON | headers)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("api")
    database, data_dir = folder / "tautulli.db", folder / "data"
    make_database(database, plays=[play(1), play(2)])
    data_dir.mkdir()
    log = ImportLog(data_dir)
    runs = CompletedRuns(log, database)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PIPELINE_DATA_DIR", str(data_dir))
        patched.setenv("IMPORT_DB_PATH", str(database))
        with on_a_server(SameOrigin(create_api(runs, lambda _settings: 0))) as port:
            yield Site(port, runs, log, database)


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    yield served
    served.log.remove()
    served.runs.launched.clear()
    served.runs.unfinished, served.runs.records = False, True


def test_before_any_import_the_status_is_pending(site: Site) -> None:
    answer = site.send(STATUS)
    assert (answer.status, answer.json["status"]) == (200, "pending")


def test_a_start_launches_an_import_and_returns_its_progress(site: Site) -> None:
    answer = site.send(START, {"source": str(site.database), "resume": False})
    assert (answer.status, answer.json["status"], answer.json["run_id"]) == (
        *(200, "completed"),
        "run-1",
    )
    assert site.runs.launched == [{"source": str(site.database), "fresh": True, "dry_run": False}]
    assert site.send(STATUS).json["import_id"] == answer.json["import_id"]


@pytest.mark.parametrize("body", [None, {}, {"server": "default"}])
def test_a_start_without_options_resumes_the_configured_database(site: Site, body: object) -> None:
    assert site.send(START, body).status == 200
    assert site.runs.launched == [{"source": str(site.database), "fresh": False, "dry_run": False}]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{", "the request is not usable"),
        ("[]", "the request is not usable"),
        ({"resume": "yes"}, "resume"),
        ({"path": "x.db"}, "path"),
        ({"source": ""}, "source"),
        ({"source": "a\0b"}, "source"),
        ({"source": "/nowhere/tautulli.db"}, "/nowhere/tautulli.db"),
        ({"source": "/dev/null"}, "/dev/null"),
        ({"server": "cabin"}, "there is no server cabin"),
    ],
)
def test_an_unusable_request_is_refused_with_the_reason(site: Site, body: object, why: str) -> None:
    answer = site.send(START, body)
    assert answer.status == 400
    assert why in answer.json["error"]
    assert answer.json["hint"]
    assert site.runs.launched == []


def test_a_start_is_refused_with_the_progress_of_the_running_import(site: Site) -> None:
    with site.log.exclusive(site.database):
        began = ImportRecord.begin(site.database, "default", fresh=False)
        site.log.write(began)
        answer = site.send(START, {})
        assert (answer.status, site.send(RESET).status) == (409, 409)
    assert answer.json["progress"]["import_id"] == began.import_id
    assert "is already running" in answer.json["error"]
    assert site.runs.launched == []


def test_a_start_is_refused_while_another_one_is_queued(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_ENDS_WITHIN_SECONDS", 0.2)
    site.runs.unfinished = True
    answer = site.send(START, {})
    assert (answer.status, answer.json["error"]) == (409, "another import is about to begin")


def test_an_import_that_cannot_begin_is_a_fault_that_names_its_run(site: Site) -> None:
    site.runs.records = False
    answer = site.send(START, {})
    assert (answer.status, answer.json["hint"]) == (500, "see /runs/run-1")


def test_there_is_nothing_to_stop_unless_an_import_runs(site: Site) -> None:
    answer = site.send(STOP)
    assert (answer.status, answer.json["error"]) == (409, "no import is running")


def test_a_reset_forgets_the_last_import(site: Site) -> None:
    site.send(START, {})
    answer = site.send(RESET)
    assert (answer.status, answer.json["status"]) == (200, "pending")
    assert site.log.read() is None


def test_validate_returns_the_findings(site: Site) -> None:
    answer = site.send(VALIDATE, {"source": str(site.database)})
    assert (answer.status, answer.json["total_records"]) == (200, 2)
    refused = site.send(VALIDATE, {"source": "--help"})
    assert refused.status == 400
    assert "--help" in refused.json["error"]


@pytest.mark.parametrize("route", [START, STOP, RESET, VALIDATE])
def test_a_request_that_a_foreign_page_could_send_is_refused(
    site: Site, route: tuple[str, str]
) -> None:
    kinds = [
        {"Content-Type": "text/plain"},
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
    ]
    assert [site.send(route, "{}", **headers).status for headers in kinds] == [415, 403, 403]
    assert site.runs.launched == []


def test_an_unknown_route_is_a_fault(site: Site) -> None:
    answer = site.send(("GET", "/api/v1/imports"))
    assert (answer.status, answer.json["error"]) == (404, "Not Found")
    assert site.send(("PUT", "/api/v1/import/status"), "{}").status == 405


@pytest.mark.slow
@settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_answer_follows_the_description(served: Site, data: st.DataObject) -> None:
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/api/v1/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) == 5
    for operation in operations:
        data.draw(operation.as_strategy()).call_and_validate(
            headers=JSON,
            # A database that does not exist follows the description, too.
            excluded_checks=[positive_data_acceptance],
        )
