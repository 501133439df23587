"""Large, hostile and many records: commands stay quick, and the terminal stays as it is."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.warehouse.schema import open_warehouse
from tautulli_pipeline_tests.cli.test_terminal import in_a_terminal
from tautulli_pipeline_tests.command import query, run
from tautulli_pipeline_tests.warehouse.plays import batch, event, message, uuid_of, writer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MANY = 1000
ODD_TITLE = "\x1b[31mred\x1b]0;title\x07 \u202egpj.exe\u2066 \x9b2J \r\nnext"


def write(data_dir: Path, *batches: Iterable[tuple[Any, ...]]) -> None:
    data_dir.mkdir(exist_ok=True)
    with open_warehouse(data_dir / "playback.duckdb") as connection:
        for messages in batches:
            writer(connection, entries=0).write(batch(messages))


def repeated(number: int) -> tuple[Any, ...]:
    """Return a message with the same item, user and start as message `number`."""
    again = event(number, event_id=uuid_of(10**6 + number), session_key=f"again {number}")
    return message(MANY + number, again)


@pytest.mark.parametrize(
    "fields",
    [{"summary": "x" * 1_000_000}, {f"field {n}": n for n in range(40_000)}],
    ids=["one long field", "many fields"],
)
def test_a_large_dead_letter_is_shown_in_part_and_printed_whole_as_json(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    write(tmp_path / "data", [message(1, event(1, started_at=None, **fields))])
    ((letter_id,),) = query(tmp_path / "data", "SELECT id::VARCHAR FROM dead_letters")
    began_at = time.process_time()
    shown = run("dead-letters", "show", letter_id, data_dir=tmp_path / "data")
    assert time.process_time() - began_at < 3
    assert shown.exit_code == 0
    assert len(shown.stdout) < 60_000
    assert "--json shows all" in " ".join(shown.stdout.split())
    whole = run("dead-letters", "show", letter_id, "--json", data_dir=tmp_path / "data").json
    assert fields.items() <= whole["record"].items()


@pytest.mark.slow
def test_a_page_of_large_records_is_listed(tmp_path: Path) -> None:
    large = [message(n, event(n, started_at=None, mood="x" * 900_000)) for n in range(1, 301)]
    write(tmp_path / "data", large)
    listed = run("dead-letters", "list", "--limit", 1000, "--json", data_dir=tmp_path / "data").json
    assert [row["title"] for row in listed["dead_letters"]] == [
        f"Film {n}" for n in range(300, 0, -1)
    ]


def test_a_thousand_duplicates_are_confirmed_and_restored_in_seconds(tmp_path: Path) -> None:
    plays = range(1, MANY + 1)
    write(tmp_path / "data", (message(n, event(n)) for n in plays), map(repeated, plays))
    chosen = ("--reason", "rating_key_user_started")
    began_at = time.process_time()
    confirmed = run("duplicates", "confirm", *chosen, data_dir=tmp_path / "data")
    restored = run("duplicates", "restore", *chosen, data_dir=tmp_path / "data")
    again = run("duplicates", "restore", *chosen, "--json", data_dir=tmp_path / "data").json
    assert time.process_time() - began_at < 10
    assert confirmed.stdout == "1,000 confirmed, 0 already confirmed\n"
    assert restored.stdout == "1,000 restored and verified, 0 already in the table\n"
    assert [row["added"] for row in again["restored"]] == [False] * MANY
    assert query(tmp_path / "data", "SELECT count(*), count(restored_at) FROM playback_events") == [
        (2 * MANY, MANY)
    ]


def test_filters_choose_what_is_restored(tmp_path: Path) -> None:
    write(tmp_path / "data", [message(n, event(n)) for n in (1, 2)], [repeated(1), repeated(2)])
    nothing = run("duplicates", "restore", "--import", "another", data_dir=tmp_path / "data")
    assert nothing.stdout == "0 restored and verified, 0 already in the table\n"
    one = run("duplicates", "list", "--limit", 1, "--json", data_dir=tmp_path / "data").json
    row_id = one["duplicates"][0]["id"]
    both = run("duplicates", "restore", row_id, "--layer", "cache", data_dir=tmp_path / "data")
    none = run("duplicates", "restore", data_dir=tmp_path / "data")
    assert (both.exit_code, none.exit_code) == (2, 2)
    by_status = ("--status", "auto_dedupe")
    run("duplicates", "confirm", row_id, data_dir=tmp_path / "data")
    restored = run("duplicates", "restore", *by_status, "--json", data_dir=tmp_path / "data").json
    assert [row["added"] for row in restored["restored"]] == [True]
    assert restored["restored"][0]["id"] != row_id


def test_a_thousand_dead_letters_are_replayed_in_seconds_and_by_their_reason(
    tmp_path: Path,
) -> None:
    no_start = [message(n, event(n, started_at=None)) for n in range(1, MANY + 1)]
    write(tmp_path / "data", [*no_start, message(MANY + 1, b"no JSON")])
    began_at = time.process_time()
    by_reason = run(
        "dead-letters", "replay", "--reason", "missing", "--json", data_dir=tmp_path / "data"
    ).json
    assert time.process_time() - began_at < 10
    assert (by_reason["tried"], by_reason["rejected"]) == (MANY, MANY)
    by_origin = run(
        "dead-letters", "replay", "--origin", "another", "--json", data_dir=tmp_path / "data"
    ).json
    assert by_origin["tried"] == 0


def test_the_beginning_of_a_message_is_not_replayed(tmp_path: Path) -> None:
    write(tmp_path / "data", [message(1, b"[" * 2_000_000)])
    replayed = run("dead-letters", "replay", "--json", data_dir=tmp_path / "data").json
    reason = "message of 2000000 bytes exceeds the limit of 1048576"
    assert [(one["outcome"], one["reason"]) for one in replayed["dead_letters"]] == [
        ("rejected", reason)
    ]


@pytest.mark.parametrize(
    "as_json",
    [pytest.param((), id="text", marks=pytest.mark.slow), pytest.param(("--json",), id="json")],
)
def test_names_and_titles_cannot_control_the_terminal(
    tmp_path: Path, as_json: tuple[str, ...]
) -> None:
    odd = {
        "title": ODD_TITLE,
        "username": ODD_TITLE,
        "friendly_name": ODD_TITLE,
        ODD_TITLE: ODD_TITLE,
    }
    data_dir = tmp_path / "data"
    write(
        data_dir,
        [message(1, event(1)), message(2, event(2, started_at=None, **odd))],
        [message(3, event(1, event_id=uuid_of(9), session_key="again", **odd))],
    )
    ((letter_id,),) = query(data_dir, "SELECT id::VARCHAR FROM dead_letters")
    ((duplicate_id,),) = query(data_dir, "SELECT id::VARCHAR FROM dedupe_audit_log")
    for command in (
        ("dead-letters", "list"),
        ("dead-letters", "show", letter_id),
        ("dead-letters", "replay"),
        ("dead-letters", "show", ODD_TITLE),
        ("duplicates", "list"),
        ("duplicates", "show", duplicate_id),
        ("import", f"{ODD_TITLE}.db"),
        ("validate", f"{ODD_TITLE}.db"),
    ):
        _, lines = in_a_terminal(*command, *as_json, data_dir=data_dir)
        shown = "".join(lines)
        assert not [c for c in "\x1b\x07\x9b\u202e\u2066" if c in shown], command
        assert "\\x1b" in shown or "\\u001b" in shown or "replay" in command, command
        if as_json and "show" in command and ODD_TITLE not in command:
            assert json.loads("\n".join(lines))["reason" if "dead-letters" in command else "id"]
