"""`up` in a real browser: the pages of the UI, and pages of other sites that attack it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.browser import browser, needs_chromium
from tautulli_pipeline_tests.command import nothing_runs, run_process, wait_until
from tautulli_pipeline_tests.served import LAUNCH, LOCATION, PARTITIONS, Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = needs_chromium

SELECTOR = {**LOCATION, "pipelineName": "dry_run_job"}
BODY = json.dumps({"query": LAUNCH, "variables": {"selector": SELECTOR, "config": {}, "tags": []}})
INLINE = (
    'mutation{launchRun(executionParams:{selector:{repositoryLocationName:"'
    f'{LOCATION["repositoryLocationName"]}",repositoryName:"__repository__",'
    'pipelineName:"dry_run_job"},runConfigData:{}}){__typename}}'
)
# Each attack is the body of an async function with `url`, `body` and `inline` in scope. It
# returns what it could read.
ATTACKS = {
    "image": "return await new Promise(done => { const i = new Image(); i.onload = i.onerror = "
    "event => done(event.type === 'load' ? 'read' : ''); "
    "i.src = `${url}/graphql?query=${encodeURIComponent(inline)}`; })",
    "picture of the UI": "return await new Promise(done => { const i = new Image(); "
    "i.onload = i.onerror = event => done(event.type === 'load' ? 'read' : ''); "
    "i.src = `${url}/favicon.png`; })",
    "script": "return await new Promise(done => { const s = document.createElement('script'); "
    "s.onload = s.onerror = event => done(event.type === 'load' ? 'read' : ''); "
    "s.src = `${url}/server_info`; document.body.append(s); })",
    "post as text": "await fetch(`${url}/graphql`, {method: 'POST', mode: 'no-cors', body}); "
    "return ''",
    "post as JSON": "return await fetch(`${url}/graphql`, {method: 'POST', body, "
    "headers: {'Content-Type': 'application/json'}}).then(a => a.text())",
    "read": "return await fetch(`${url}/server_info`).then(a => a.text())",
    "form": "const f = document.createElement('form'); f.method = 'POST'; f.target = 'other'; "
    "f.action = `${url}/graphql?query=${encodeURIComponent(inline)}`; document.body.append(f); "
    "f.submit(); return ''",
    "websocket": "return await new Promise((done, failed) => { "
    "const s = new WebSocket(url.replace('http', 'ws') + '/graphql', 'graphql-ws'); "
    "s.onopen = () => { s.send(JSON.stringify({type: 'start', id: '1', payload: {query: inline}}));"
    " setTimeout(() => done('connected'), 500); }; s.onerror = () => failed('refused'); })",
    "frame": "return await new Promise(done => { const f = document.createElement('iframe'); "
    "f.onload = () => done(''); f.src = url; document.body.append(f); })",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("pages")
    make_demo_database(folder / "tautulli.db", 300)
    with serving(folder / "data", folder / "tautulli.db") as served:
        yield served
    assert nothing_runs(folder / "data")


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@contextmanager
def foreign_site() -> Iterator[int]:
    """Serve an empty page on another port; yield the port."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>foreign</title><body></body>")

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("127.0.0.1", marks=pytest.mark.slow, id="same site"),
        pytest.param("localhost", id="another site"),
    ],
)
def test_a_foreign_page_starts_and_reads_nothing(served: Served, opened: Browser, name: str):
    before = len(served.runs())
    with foreign_site() as port:
        page = opened.new_page()
        for attack, code in ATTACKS.items():
            page.goto(f"http://{name}:{port}/")
            script = f"async ([url, body, inline]) => {{ {code} }}"
            try:
                found = page.evaluate(script, [served.url, BODY, INLINE])
            except Exception as error:  # the browser refused, as it should
                found = f"refused: {error}"
            assert found == "" or found.startswith("refused"), (attack, found)
            if attack == "frame":
                frame = page.frames[-1]
                assert "Deployment" not in frame.locator("body").inner_text(), frame.url
        page.goto(f"{served.url}/graphql?query={quote(INLINE)}")  # somebody follows a link
        page.close()
    assert len(served.runs()) == before


def test_the_own_page_works_and_starts_a_run(served: Served, opened: Browser):
    page = opened.new_page()
    errors: list[str] = []
    sockets: list[int] = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("websocket", lambda s: s.on("framereceived", lambda _: sockets.append(1)))
    page.goto(f"{served.url}/jobs")
    page.get_by_text("import_job").first.wait_for(timeout=60_000)
    answer = page.evaluate(
        "([url, body]) => fetch(`${url}/graphql`, {method: 'POST', body, "
        "headers: {'Content-Type': 'application/json'}}).then(a => a.json())",
        [served.url, BODY],
    )
    run_id = answer["data"]["launchRun"]["run"]["runId"]
    page.goto(f"{served.url}/runs/{run_id}")
    page.get_by_text("dry_run_job").first.wait_for(timeout=60_000)
    assert served.ended(run_id) == "SUCCESS"
    assert sockets
    assert errors == []
    page.close()


def test_the_page_of_a_queued_run_follows_it_to_its_end_without_a_reload(
    served: Served, opened: Browser
):
    page = opened.new_page()
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    run_id = served.launch("import_job")
    page.goto(f"{served.url}/runs/{run_id}")
    page.get_by_text("RUN_ENQUEUED").first.wait_for(timeout=60_000)
    for kind in ("RUN_START", "STEP_START", "ASSET_MATERIALIZATION", "STEP_SUCCESS", "RUN_SUCCESS"):
        page.get_by_text(kind, exact=True).first.wait_for(timeout=60_000)
    assert len(loads) == 1
    page.close()


@pytest.mark.slow
def test_an_import_of_the_command_line_is_on_the_page_of_its_job_and_on_the_timeline(
    served: Served, opened: Browser
):
    imported = run_process("import", served.database, "--fresh", "--json", data_dir=served.data_dir)
    assert imported.exit_code == 0, imported.stderr
    newest = served.runs(pipelineName="import_job")[0]
    assert {"key": "tautulli_pipeline/started_by", "value": "command line"} in newest["tags"]
    page = opened.new_page()
    location = LOCATION["repositoryLocationName"]
    page.goto(f"{served.url}/locations/{location}/jobs/import_job/runs")
    page.get_by_text(newest["runId"][:8]).first.wait_for(timeout=60_000)
    page.goto(f"{served.url}/overview/timeline")
    page.get_by_text("import_job").locator("visible=true").first.wait_for(timeout=60_000)
    page.close()


@pytest.mark.parametrize("job", ["import_job", "consume_job", "dry_run_job"])
def test_a_launchpad_shows_only_options_that_somebody_would_set(
    served: Served, opened: Browser, job: str
):
    page = opened.new_page()
    location = LOCATION["repositoryLocationName"]
    page.goto(f"{served.url}/locations/{location}/jobs/{job}/playground")
    page.get_by_text("No errors").wait_for(timeout=60_000)
    editor = page.locator(".CodeMirror").first.inner_text()
    assert "resources" not in editor
    assert ("salvage: false" in editor) is (job != "consume_job")
    page.close()


@pytest.mark.slow
def test_a_partition_typed_by_hand_is_refused_and_nothing_fails(served: Served):
    run_id = served.launch("import_job", **{"dagster/partition": "foo"})
    assert served.ended(run_id) == "CANCELED"
    messages = [event.get("message") or "" for event in served.events(run_id)]
    assert (
        "there is no partition 'foo'; the launchpad suggests the existing partitions; "
        "leave it empty to import all due"
    ) in messages
    node = served.ask(PARTITIONS)
    assert "foo" not in node["partitionKeys"]
    assert node["assetPartitionStatuses"]["failedPartitions"] == []


@pytest.mark.slow
def test_a_failed_run_names_its_cause_in_one_line(served: Served):
    config = {"ops": {"publish_partitions": {"config": {"source": "/nowhere/tautulli.db"}}}}
    run_id = served.launch("import_job", config)
    assert served.ended(run_id) == "FAILURE"
    messages = [event.get("message") or "" for event in served.events(run_id)]
    assert (
        "cannot read '/nowhere/tautulli.db': it does not exist. check the path of the "
        "Tautulli database"
    ) in messages


@pytest.mark.slow
def test_a_password_is_asked_for_once(tmp_path_factory: pytest.TempPathFactory, opened: Browser):
    folder = tmp_path_factory.mktemp("locked")
    make_demo_database(folder / "tautulli.db", 50)
    (folder / "password").write_text("open sesame\n")
    variables = {
        "PIPELINE_PASSWORD_FILE": folder / "password",
        "IMPORT_ENABLED": "true",
        "IMPORT_AUTO_START": "true",  # `up` has to log in to its own server
    }
    with serving(folder / "data", folder / "tautulli.db", **variables) as served:
        page = opened.new_page()
        sockets: list[int] = []
        page.on("websocket", lambda s: s.on("framereceived", lambda _: sockets.append(1)))
        page.goto(f"{served.url}/jobs")
        page.get_by_label("Password").fill("open barley")
        page.get_by_role("button").click()
        page.get_by_text("This is not the password.").wait_for()
        page.get_by_label("Password").fill("open sesame")
        page.get_by_role("button").click()
        page.goto(f"{served.url}/runs")
        page.get_by_text("import_job").first.wait_for(timeout=60_000)
        page.get_by_text("import_job").first.click()
        wait_until(lambda: sockets, 60)
        wait_until(lambda: served.status()["status"] == "completed", 60)
        page.close()
