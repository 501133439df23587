"""Imports over an existing JetStream, with failures of the server and the stream."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import (
    Outcome,
    ended,
    imported,
    outcomes,
    processes_of,
    query,
    run,
    start,
    wait_until,
)
from tautulli_pipeline_tests.external_server import STREAM, ExternalServer, external_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

FEW, MANY = 400, 6_500
SERVER_AWAY = "the stream server is unreachable; waiting for it to come back"
EVENTS_LOST = "events were lost on the stream; publishing them again"
DURABLE = "tautulli-pipeline"
SHORT_TIMEOUT = """
import dataclasses, sys
from tautulli_pipeline.cli import main
from tautulli_pipeline.imports import connections
named = connections._names
connections._names = lambda *given: dataclasses.replace(named(*given), patience_seconds=3)
main()
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few") / "tautulli.db"
    make_demo_database(path, FEW)
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "tautulli.db"
    make_demo_database(path, MANY)
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalServer]:
    with external_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(running: ExternalServer) -> Iterator[ExternalServer]:
    """A server without streams; the test's stream is deleted afterwards."""
    yield running
    running.delete_stream()


def all_imported(summary: dict[str, Any], data_dir: Path, rows: int) -> bool:
    """Assert that each row was imported once, and nothing else; return True."""
    assert outcomes(summary) == {"total_records": rows, "processed": rows, "imported": rows}
    counts = "SELECT count(*), count(DISTINCT id), count(DISTINCT source_row_id)"
    assert query(data_dir, f"{counts} FROM playback_events") == [(rows, rows, rows)]
    assert query(data_dir, "SELECT count(*) FROM dead_letters") == [(0,)]
    return True


def refused(outcome: Outcome, exit_code: int = 5) -> str:
    """Assert that a command failed with one error and one hint; return both."""
    assert outcome.exit_code == exit_code, outcome.stderr
    lines = outcome.stderr.splitlines()
    error, hint = outcome.json["error"], outcome.json["hint"]
    assert lines[-2:] == [f"tautulli-pipeline: {error}", f"  {hint}"]
    assert "Traceback" not in outcome.stderr
    return f"{error}\n{hint}"


def published(data_dir: Path) -> int:
    return len(list(data_dir.glob("receipts/*/0*")))


def consumer_of(data_dir: Path) -> psutil.Process:
    """Return the consumer's process."""
    found = [p for p in processes_of(data_dir) if any("consumer_main" in w for w in p.cmdline())]
    assert len(found) == 1
    return found[0]


def begun(database: Path, server: ExternalServer, data_dir: Path) -> Any:
    """Start an import and suspend its consumer once a partition is published."""
    process = start("import", database, "--json", data_dir=data_dir, NATS_URL=server.url)
    wait_until(lambda: published(data_dir))
    consumer_of(data_dir).suspend()
    return process


@pytest.mark.slow
def test_an_import_waits_for_a_killed_server(many: Path, data_dir: Path, tmp_path: Path) -> None:
    with external_server(tmp_path / "server") as server:
        process = start("import", many, "--json", data_dir=data_dir, NATS_URL=server.url)
        wait_until(lambda: published(data_dir))
        server.kill()
        time.sleep(7)
        server.start()
        outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, MANY)
    assert outcome.stderr.splitlines().count(SERVER_AWAY) == 1


@pytest.mark.slow
def test_an_import_waits_for_a_frozen_server(many: Path, data_dir: Path, tmp_path: Path) -> None:
    with external_server(tmp_path / "server") as server:
        process = start("import", many, "--json", data_dir=data_dir, NATS_URL=server.url)
        wait_until(lambda: published(data_dir))
        server.freeze()
        time.sleep(9)
        server.thaw()
        outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, MANY)
    assert outcome.stderr.splitlines().count(SERVER_AWAY) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_an_import_fails_if_the_server_stays_away_and_resumes_later(
    how: str, many: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with external_server(tmp_path / "server") as server:
        with monkeypatch.context() as patched:
            # The script drops `-m tautulli_pipeline`, the first arguments of every command.
            patched.setattr(sys, "executable", python_with_short_timeout(tmp_path))
            process = start("import", many, "--json", data_dir=data_dir, NATS_URL=server.url)
        wait_until(lambda: published(data_dir))
        server.kill() if how == "killed" else server.freeze()
        began_at = time.monotonic()
        outcome = ended(process)
        assert time.monotonic() - began_at < 90
        assert server.url in refused(outcome)
        assert outcome.stderr.splitlines().count(SERVER_AWAY) == 1
        failed = run("status", "--json", data_dir=data_dir).json
        assert (failed["status"], failed["processed"] < MANY) == ("failed", True)
        server.start() if how == "killed" else server.thaw()
        resumed = imported(many, data_dir=data_dir, NATS_URL=server.url)
        assert resumed["import_id"] == failed["import_id"]
        assert all_imported(resumed, data_dir, MANY)


def python_with_short_timeout(folder: Path) -> str:
    """Write a script that runs the command with a server timeout of 3 s instead of 2 min."""
    script = folder / "python"
    code = folder / "short_timeout.py"
    code.write_text(SHORT_TIMEOUT)
    script.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{code}" "$@"\n')
    script.chmod(0o700)
    return str(script)


@pytest.mark.slow
def test_ctrl_c_stops_an_import_that_waits_for_its_server(
    many: Path, data_dir: Path, tmp_path: Path
) -> None:
    with external_server(tmp_path / "server") as server:
        process = start("import", many, "--json", data_dir=data_dir, NATS_URL=server.url)
        wait_until(lambda: published(data_dir))
        server.kill()
        process.send_signal(signal.SIGINT)
        began_at = time.monotonic()
        outcome = ended(process)
        assert time.monotonic() - began_at < 60
        assert outcome.exit_code == 130, outcome.stderr
        server.start()
        assert all_imported(imported(many, data_dir=data_dir, NATS_URL=server.url), data_dir, MANY)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        pytest.param({"max_msgs": 150}, "max_msgs 150", id="max_msgs"),
        pytest.param(
            {"max_bytes": 400_000}, "max_bytes 400000", id="max_bytes", marks=pytest.mark.slow
        ),
    ],
)
def test_a_small_stream_that_drops_old_messages_loses_nothing(
    settings: dict[str, int], shown: str, few: Path, data_dir: Path, server: ExternalServer
) -> None:
    server.make_stream(**settings)
    outcome = run("import", few, "--json", data_dir=data_dir, NATS_URL=server.url)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, FEW)
    assert outcome.stderr.splitlines()[0] == (
        f"stream {STREAM} may drop events before they are consumed ({shown}); "
        "dropped events are published again"
    )
    assert EVENTS_LOST not in outcome.stderr


@pytest.mark.slow
def test_events_that_expire_before_they_are_consumed_are_published_again(
    many: Path, data_dir: Path, server: ExternalServer
) -> None:
    server.make_stream(max_age=1)
    process = begun(many, server, data_dir)
    wait_until(lambda: server.state().last_seq >= MANY)
    wait_until(lambda: server.state().messages == 0)
    consumer_of(data_dir).resume()
    outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, MANY)
    assert "(max_age 1 s)" in outcome.stderr
    assert EVENTS_LOST in outcome.stderr


def test_an_import_waits_until_a_full_stream_has_room(
    few: Path, data_dir: Path, server: ExternalServer
) -> None:
    retention = RetentionPolicy.INTEREST
    server.make_stream(max_msgs=150, discard=DiscardPolicy.NEW, retention=retention)
    outcome = run("import", few, "--json", data_dir=data_dir, NATS_URL=server.url)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, FEW)
    waits = "the stream is full; waiting for the consumer to make room"
    assert outcome.stderr.splitlines().count(waits) == 1


@pytest.mark.slow
def test_an_import_fails_if_the_stream_stays_full_and_resumes_once_it_has_room(
    few: Path, data_dir: Path, server: ExternalServer
) -> None:
    server.make_stream(max_msgs=150, discard=DiscardPolicy.NEW)
    message = refused(run("import", few, "--json", data_dir=data_dir, NATS_URL=server.url))
    assert "is full (max_msgs 150) and keeps consumed messages (limits retention)" in message
    assert run("status", "--json", data_dir=data_dir).json["status"] == "failed"

    async def widen(jetstream: Any) -> None:
        config = (await jetstream.stream_info(STREAM)).config
        await jetstream.update_stream(config.evolve(max_msgs=FEW))

    server.ask(widen)
    # The first attempt belongs to the same import, so its rows count as imported.
    assert all_imported(imported(few, data_dir=data_dir, NATS_URL=server.url), data_dir, FEW)


@pytest.mark.slow
def test_events_purged_before_they_are_consumed_are_published_again(
    many: Path, data_dir: Path, server: ExternalServer
) -> None:
    process = begun(many, server, data_dir)
    wait_until(lambda: server.state().last_seq >= MANY)
    server.ask(lambda jetstream: jetstream.purge_stream(STREAM))
    consumer_of(data_dir).resume()
    outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, MANY)
    assert EVENTS_LOST in outcome.stderr


@pytest.mark.slow
def test_a_durable_consumer_deleted_during_an_import_is_recreated(
    many: Path, data_dir: Path, server: ExternalServer
) -> None:
    process = begun(many, server, data_dir)
    wait_until(lambda: server.state().last_seq >= MANY)
    server.ask(lambda jetstream: jetstream.delete_consumer(STREAM, DURABLE))
    consumer_of(data_dir).resume()
    outcome = ended(process)
    assert outcome.exit_code == 0, outcome.stderr
    assert all_imported(outcome.json, data_dir, MANY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recreated", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["deleted", "recreated"]
)
def test_deleting_the_stream_fails_the_import_and_the_next_one_imports_the_rest(
    recreated: bool, many: Path, data_dir: Path, server: ExternalServer
) -> None:
    process = begun(many, server, data_dir)
    server.delete_stream()
    if recreated:
        server.make_stream()
    consumer_of(data_dir).resume()
    began_at = time.monotonic()
    message = refused(ended(process))
    assert time.monotonic() - began_at < 60
    assert f"stream {STREAM} was deleted" in message
    assert "import again" in message
    server.delete_stream()
    resumed = imported(many, data_dir=data_dir, NATS_URL=server.url)
    assert all_imported(resumed, data_dir, MANY)


def test_a_stream_recreated_between_imports_restarts_at_sequence_one_and_adds_no_duplicates(
    few: Path, data_dir: Path, server: ExternalServer
) -> None:
    server.make_stream()
    assert all_imported(imported(few, data_dir=data_dir, NATS_URL=server.url), data_dir, FEW)
    server.delete_stream()
    server.make_stream()
    again = imported(few, data_dir=data_dir, NATS_URL=server.url)
    assert outcomes(again) == {"total_records": FEW, "processed": FEW, "database": FEW}
    assert server.state().last_seq == FEW
    assert query(data_dir, "SELECT count(*) FROM dedupe_audit_log") == [(0,)]


@pytest.mark.slow
def test_a_warehouse_deleted_between_imports_is_filled_again(
    few: Path, data_dir: Path, server: ExternalServer
) -> None:
    server.make_stream()
    imported(few, data_dir=data_dir, NATS_URL=server.url)
    (data_dir / "playback.duckdb").unlink()
    assert all_imported(imported(few, data_dir=data_dir, NATS_URL=server.url), data_dir, FEW)


@pytest.mark.parametrize("retention", [RetentionPolicy.LIMITS, RetentionPolicy.WORK_QUEUE])
def test_an_existing_stream_with_other_subjects_and_consumers_is_used_unchanged(
    retention: RetentionPolicy, few: Path, data_dir: Path, server: ExternalServer
) -> None:
    subjects = ["orders.>", "playback.*.*"]
    server.make_stream(subjects=subjects, retention=retention)
    other = ConsumerConfig(durable_name="other", filter_subject="orders.>")
    server.ask(lambda jetstream: jetstream.add_consumer(STREAM, other))
    server.ask(lambda jetstream: jetstream.publish("orders.new", b"an order"))
    assert all_imported(imported(few, data_dir=data_dir, NATS_URL=server.url), data_dir, FEW)
    left = {RetentionPolicy.LIMITS: FEW + 1}.get(retention, 1)
    wait_until(lambda: server.state().messages == left)


def test_an_unusable_server_is_reported_within_seconds(
    few: Path, tmp_path: Path, server: ExternalServer
) -> None:
    locked = 'authorization { users: [ { user: "me", password: "right" } ] }'
    server.make_stream(name="ANOTHER", subjects=["orders.>"])
    taken = ConsumerConfig(durable_name=DURABLE, deliver_subject="pushed")
    server.ask(lambda jetstream: jetstream.add_consumer("ANOTHER", taken))
    with (
        external_server(tmp_path / "locked", locked) as guarded,
        external_server(tmp_path / "plain", jetstream=False) as plain,
    ):
        guarded_url = guarded.url.replace("//", "//me:wr0ng@")
        cases: list[tuple[dict[str, object], int, str]] = [
            ({"NATS_URL": guarded_url}, 5, "it refused the login: 'Authorization Violation'"),
            ({"NATS_URL": plain.url}, 5, "JetStream is not enabled on the server"),
            ({"NATS_URL": guarded.url, "NATS_CREDS": "no.creds"}, 2, "NATS_CREDS='no.creds'"),
            ({"NATS_URL": guarded.url, "NATS_TLS_CA": "no.pem"}, 2, "NATS_TLS_CA='no.pem'"),
            ({"NATS_URL": "http://me:wr0ng@host"}, 2, "NATS_URL='http://host'"),
            (
                {"NATS_URL": server.url, "NATS_STREAM": "ANOTHER"},
                5,
                "stream ANOTHER does not capture the subjects playback.>",
            ),
        ]
        for number, (variables, exit_code, words) in enumerate(cases):
            data_dir = tmp_path / f"data{number}"
            began_at = time.monotonic()
            outcome = run("import", few, "--json", data_dir=data_dir, **variables)
            assert time.monotonic() - began_at < 60
            assert words in refused(outcome, exit_code)
            assert len(outcome.stderr.splitlines()) == 2
            assert "wr0ng" not in outcome.stderr + outcome.stdout
            assert data_dir.exists() == (exit_code == 5)
    server.ask(lambda jetstream: jetstream.delete_stream("ANOTHER"))


@pytest.mark.slow
def test_two_data_directories_cannot_share_a_durable_consumer(
    many: Path, few: Path, data_dir: Path, tmp_path: Path, server: ExternalServer
) -> None:
    # The small stream keeps the first import running.
    server.make_stream(max_msgs=400, discard=DiscardPolicy.NEW, retention=RetentionPolicy.INTEREST)
    first = start("import", many, "--json", data_dir=data_dir, NATS_URL=server.url)
    wait_until(lambda: server.state().last_seq)
    # Suspend the first import; its consumer continues.
    first.send_signal(signal.SIGSTOP)
    try:
        second = run("import", few, "--json", data_dir=tmp_path / "second", NATS_URL=server.url)
    finally:
        first.send_signal(signal.SIGCONT)
    message = refused(second)
    assert f"another process consumes stream {STREAM} as {DURABLE}" in message
    assert "NATS_DURABLE_NAME" in message
    outcome = ended(first)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcomes(outcome.json) == {"total_records": MANY, "processed": MANY, "imported": MANY}
    server.delete_stream()  # it still holds events that the first durable has not consumed
    own = imported(
        few, data_dir=tmp_path / "second", NATS_URL=server.url, NATS_DURABLE_NAME="second"
    )
    assert outcomes(own) == {"total_records": FEW, "processed": FEW, "imported": FEW}


def test_what_fits_max_msg_size_is_imported_and_the_rest_is_rejected_by_name(
    tmp_path: Path, data_dir: Path, server: ExternalServer
) -> None:
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(n, summary="s" * 10 * n) for n in range(1, 201)])
    server.make_stream(max_msg_size=3000)
    summary = imported(path, data_dir=data_dir, NATS_URL=server.url)
    assert summary["imported"] + summary["rejected"] == 200
    assert 0 < summary["rejected"] < 200
    reasons = query(data_dir, "SELECT DISTINCT split_part(reason, ', ', 2) FROM dead_letters")
    assert reasons == [(f"set by max_msg_size 3000 of stream {STREAM}",)]
    # The stored message of the largest event comes close to the limit.
    ((largest,),) = query(data_dir, "SELECT max(length(summary)) FROM playback_events")
    ((smallest,),) = query(
        data_dir,
        "SELECT min(length(record ->> '$.session_history_metadata.summary')) FROM dead_letters",
    )
    assert smallest == largest + 10
