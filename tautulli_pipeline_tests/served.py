"""Run `up` with the real webserver and daemon, and control it over GraphQL."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import psutil

from tautulli_pipeline.imports.record import PENDING_SUMMARY, ImportLog
from tautulli_pipeline_tests.command import environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCATION = {
    "repositoryLocationName": "tautulli_pipeline.definitions",
    "repositoryName": "__repository__",
}
LAUNCH = """
mutation ($selector: JobOrPipelineSelector!, $config: RunConfigData!, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: $selector, runConfigData: $config, executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } }
       ... on RunConfigValidationInvalid { errors { message } } }
}
"""
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
RUNS = """
query ($filter: RunsFilter) {
  runsOrError(filter: $filter, limit: 50) { ... on Runs { results {
    runId jobName status parentRunId tags { key value }
  } } }
}
"""
EVENTS = """
query ($id: ID!) {
  logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {
    __typename ... on MessageEvent { message }
    ... on ExecutionStepFailureEvent { error { message } }
    ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } }
  } } }
}
"""
TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
PARTITIONS = """
query { assetNodeOrError(assetKey: {path: ["playback_stream"]}) { ... on AssetNode {
  partitionKeys
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions unmaterializedPartitions failedPartitions
  } }
} } }
"""
TICKS = """
query ($selector: RepositorySelector!) {
  sensorsOrError(repositorySelector: $selector) { ... on Sensors { results {
    name sensorState { status ticks(limit: 1) { status skipReason error { message } } }
  } } }
}
"""
SENSORS = """
query ($selector: RepositorySelector!) {
  sensorsOrError(repositorySelector: $selector) { ... on Sensors { results {
    name sensorState { id }
  } } }
}
"""
START_SENSOR = """
mutation ($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename }
}
"""
STOP_SENSOR = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"


@dataclass
class Served:
    """A running `up`."""

    data_dir: Path
    database: Path
    port: int
    process: subprocess.Popen[str]
    variables: dict[str, object]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **variables: object) -> Any:
        """Run a query for a single field and return it."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            facts = json.load(answer)
        assert "errors" not in facts, facts
        (field,) = facts["data"].values()
        return field

    def launch(self, job: str, config: dict[str, Any] | None = None, **tags: str) -> str:
        """Start a run as the UI does; return its id."""
        given = [{"key": key, "value": value} for key, value in tags.items()]
        selector = {**LOCATION, "pipelineName": job}
        answer = self.ask(LAUNCH, selector=selector, config=config or {}, tags=given)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def set_sensor(self, name: str, *, running: bool) -> None:
        """Start or stop a sensor as the UI does."""
        if running:
            self.ask(START_SENSOR, selector={**LOCATION, "sensorName": name})
            return
        sensors = self.ask(SENSORS, selector=LOCATION)["results"]
        (found,) = [sensor["sensorState"]["id"] for sensor in sensors if sensor["name"] == name]
        self.ask(STOP_SENSOR, id=found)

    def backfill(self, keys: list[str]) -> str:
        """Start a backfill of `playback_stream` as the UI does; return its id."""
        assets = [{"path": ["session_history"]}, {"path": ["playback_stream"]}]
        params = {"assetSelection": assets, "partitionNames": keys}
        answer = self.ask(BACKFILL, params=params)
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def runs(self, **wanted: object) -> list[dict[str, Any]]:
        """Return the runs that match a filter, newest first."""
        return list(self.ask(RUNS, filter=wanted)["results"])

    def ended(self, run_id: str, seconds: float = 90) -> str:
        """Wait for a run to end; return its status."""

        def end() -> str | None:
            (found,) = self.runs(runIds=[run_id])
            return found["status"] if found["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else ""

        return str(wait_until(end, seconds, pause_seconds=0.3))

    def events(self, run_id: str) -> list[dict[str, Any]]:
        return list(self.ask(EVENTS, id=run_id)["events"])

    def worker(self, run_id: str) -> psutil.Process:
        """Wait until a run reports its process; return it."""

        def reported_id() -> int | None:
            for event in self.events(run_id):
                for entry in event.get("metadataEntries", ()):
                    if entry["label"] == "pid":
                        return int(entry["text"])
            return None

        return psutil.Process(wait_until(reported_id, pause_seconds=0.1))

    def skip_reasons(self) -> dict[str, str]:
        """Return the skip reason of each sensor's latest tick."""
        return {
            sensor["name"]: tick["skipReason"]
            for sensor in self.ask(TICKS, selector=LOCATION)["results"]
            for tick in sensor["sensorState"]["ticks"]
        }

    def print_runs(self) -> None:
        """Print the messages of the latest runs; pytest shows them with a failure."""
        for run in self.runs()[:6]:
            events = self.events(run["runId"])
            messages = [event.get("message") for event in events]
            messages += [(event.get("error") or {}).get("message") for event in events]
            print(run["jobName"], run["status"], *filter(None, messages), sep="\n  ")  # noqa: T201 - pytest shows it

    def status(self) -> dict[str, Any]:
        """Return the output of `status --json` without starting a process."""
        record = ImportLog(self.data_dir).current()
        return record.summary() if record else PENDING_SUMMARY


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(data_dir: Path, database: Path, **variables: object) -> Iterator[Served]:
    """Run `up` within the context, and end it with Ctrl-C."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "tautulli_pipeline", "up", "--port", str(port)],
        env=environment(data_dir, IMPORT_DB_PATH=database, **variables),
        cwd=data_dir.parent,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        served = Served(data_dir, database, port, process, variables)
        try:
            first = process.stderr.readline()
            assert first.startswith(f"http://127.0.0.1:{port} "), first + process.stderr.read()
            yield served
        except AssertionError:
            with suppress(OSError):  # `up` itself may have failed
                served.print_runs()
            raise
        finally:
            process.send_signal(signal.SIGINT)
            sys.stderr.write(process.communicate(timeout=120)[1])
