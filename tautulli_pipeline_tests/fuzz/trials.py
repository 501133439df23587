"""One trial: an input made from a seed, the commands that read it, and what they did wrong."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import duckdb

from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.publisher import Outgoing
from tautulli_pipeline.stream.session import open_publishing
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import nothing_runs, query
from tautulli_pipeline_tests.fuzz.archives import damaged_archive
from tautulli_pipeline_tests.fuzz.databases import damaged_database
from tautulli_pipeline_tests.warehouse.test_fuzzed_messages import (
    SUBJECT_PARTS,
    mixed,
    not_repeated,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tautulli_pipeline_tests.fuzz.worker import Ended, Worker

CPU_SECONDS: Final = 20.0
PEAK_MIB: Final = 600
MESSAGES: Final = 400
_IMPORTED_ONE_IN: Final = 12
_LARGE: Final = 0.02
_LARGEST_BYTES: Final = 1_000_000
_TABLES: Final = ("playback_events", "dead_letters", "dedupe_audit_log")


def _try_database(worker: Worker, folder: Path, seed: int) -> Iterator[str]:
    """Read a damaged database; yield what is wrong."""
    dice = random.Random(seed)
    path = folder / "tautulli.db"
    damaged_database(path, dice)
    yield from _read_by_all(worker, path, dice)


def _try_archive(worker: Worker, folder: Path, seed: int) -> Iterator[str]:
    """Read a damaged zip archive; yield what is wrong."""
    dice = random.Random(seed)
    path = folder / "tautulli.zip"
    damaged_archive(path, dice)
    yield from _read_by_all(worker, path, dice)


def _try_messages(worker: Worker, folder: Path, seed: int) -> Iterator[str]:
    """Consume messages of hostile producers; yield what is wrong."""
    dice = random.Random(seed)
    data_dir, path = folder / "data", folder / "tautulli.db"
    make_database(path, plays=[play(number) for number in range(1, 6)])
    messages = list(_hostile_messages(dice))
    sequences = _publish(data_dir, messages)
    yield from _import(worker, path, data_dir, "--json")
    for command in ("dead-letters", "duplicates"):
        yield from _faults(worker.run(command, "list", "--json", data_dir=data_dir), command)
    if (data_dir / "playback.duckdb").exists():
        yield from _misplaced(data_dir, dict(zip(sequences, messages, strict=True)))


def _misplaced(data_dir: Path, messages: dict[int, Outgoing]) -> Iterator[str]:
    """Yield messages that are stored twice, or nowhere although no stored play says the same.

    A revision may have a row in the audit log as well.
    """
    places = Counter(
        sequence
        for table in _TABLES
        for (sequence,) in query(data_dir, f"SELECT stream_sequence FROM {table}")
        if sequence in messages
    )
    yield from (f"message {number} has {n} places" for number, n in places.items() if n > 1)
    revised = {n for (n,) in query(data_dir, "SELECT stream_sequence FROM playback_revisions")}
    rows = [
        (number, messages[number].subject, None, f"{number}", None, bytes(messages[number].payload))
        for number in messages.keys() - places.keys() - revised
    ]
    with duckdb.connect(data_dir / "playback.duckdb", read_only=True) as connection:
        for number in not_repeated(connection, rows):
            yield f"message {number} has no place"


_KINDS: Final = {"databases": _try_database, "archives": _try_archive, "messages": _try_messages}
KINDS: Final = tuple(_KINDS)


def problems_with(kind: str, worker: Worker, folder: Path, seed: int) -> list[str]:
    """Make the input of this kind and seed in `folder`, read it, and return what is wrong."""
    problems = list(_KINDS[kind](worker, folder, seed))
    if not nothing_runs(folder / "data"):
        problems.append("processes kept running")
    return problems


def _read_by_all(worker: Worker, path: Path, dice: random.Random) -> Iterator[str]:
    data_dir, before = path.parent / "data", _contents(path.parent)
    for command in (["validate"], ["import", "--dry-run", "--salvage"]):
        arguments = [*command, path, "--json"]
        yield from _faults(worker.run(*arguments, data_dir=data_dir), " ".join(command))
        if _contents(path.parent) != before:
            yield f"{' '.join(command)} changed or left files"
    if dice.randrange(_IMPORTED_ONE_IN) == 0:
        yield from _import(worker, path, data_dir, "--salvage", "--json")


def _import(worker: Worker, path: Path, data_dir: Path, *options: str) -> Iterator[str]:
    """Import the file and compare the counts with the tables."""
    ended = worker.run("import", path, *options, data_dir=data_dir)
    faults = [*_faults(ended, "import")]
    yield from faults
    if faults or ended.exit_code:
        return
    summary = json.loads(ended.stdout)
    if summary["processed"] != summary["total_records"]:
        yield f"{summary['processed']} of {summary['total_records']} rows have an outcome"
    ((imported,),) = query(
        data_dir,
        "SELECT count(*) FROM playback_events WHERE import_id = ? AND source_row_id IS NOT NULL",
        summary["import_id"],
    )
    if imported != summary["imported"]:
        yield f"{summary['imported']} rows were imported, and the table has {imported}"


def _faults(ended: Ended, command: str) -> Iterator[str]:
    if ended.exit_code not in (0, 3):
        yield f"{command} ended with exit code {ended.exit_code}: {ended.stderr[-500:]}"
    if "Traceback" in ended.stderr or "Warning" in ended.stderr:
        yield f"{command} printed {ended.stderr[-1000:]}"
    if ended.cpu_seconds > CPU_SECONDS:
        yield f"{command} took {ended.cpu_seconds:.0f} s of CPU"
    if ended.peak_mib > PEAK_MIB:
        yield f"{command} used {ended.peak_mib} MiB"
    try:
        facts = json.loads(ended.stdout)
    except ValueError:
        yield f"{command} printed {ended.stdout[:200]!r} instead of JSON"
    else:
        if ended.exit_code == 3 and not (facts["error"] and facts["hint"]):
            yield f"{command} failed without a reason or a hint: {facts}"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _hostile_messages(dice: random.Random) -> Iterator[Outgoing]:
    parts = [part for part in SUBJECT_PARTS if part and not set(part) & set(" *")]
    for number in range(1, MESSAGES + 1):
        subject = f"playback.{dice.choice(parts)}.{dice.choice(parts)}"
        headers = {"Nats-Msg-Id": f"hostile-{number}"}
        if dice.random() < 0.2:
            headers["Import-Id"] = dice.choice(("x", "null", "é🎬", "0" * 500))
        body = mixed(dice, number)
        if dice.random() < _LARGE:
            body = dice.choice((b"\xff", b"[", b"x", body)) * dice.choice((10_000, 200_000))
        yield Outgoing(subject, body[:_LARGEST_BYTES], headers)


def _publish(data_dir: Path, messages: list[Outgoing]) -> list[int]:
    """Publish the messages on the embedded stream; return their sequences."""
    settings = Settings(pipeline_data_dir=data_dir)
    data_dir.mkdir(mode=0o700)
    with stream_address(settings) as address, open_publishing(address) as session:
        return list(session.publish(messages).result().sequences)
