"""The `duplicates` and `dead-letters` commands, with text and JSON output."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tautulli_pipeline.cli import auditing
from tautulli_pipeline.warehouse import duplicates
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.cli.test_terminal import in_a_terminal
from tautulli_pipeline_tests.command import imported, nothing_runs, query, run
from tautulli_pipeline_tests.holding import held_by_another_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "A title that does not fit on any line of a terminal, with \x1b[31m colors\nand lines"
# Play 8 repeats play 3. Play 9 is a near match of play 5.
SAME_AS_3 = {"started": 1_700_030_000, "rating_key": 103}
PLAYS = [
    *(play(n) for n in range(1, 6)),
    play(6, title=""),
    play(7, history={"user_id": ""}, title=LONG),
    play(8, title=LONG, **SAME_AS_3),
    play(9, title="Film 5", started=1_700_050_020),
]


@pytest.fixture(scope="module")
def imported_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a database and the data directory after one import."""
    folder = tmp_path_factory.mktemp("records")
    make_database(folder / "tautulli.db", plays=PLAYS)
    imported(folder / "tautulli.db", data_dir=folder / "data")
    assert nothing_runs(folder / "data")
    return folder


@pytest.fixture
def imported_dir(imported_once: Path, tmp_path: Path) -> Iterator[Path]:
    """Yield a copy of this data directory, with a copy of the database next to it."""
    shutil.copytree(imported_once, tmp_path / "imported")
    yield tmp_path / "imported" / "data"
    assert nothing_runs(tmp_path / "imported" / "data")


def run_json(*words: object, data_dir: Path, **variables: object) -> Any:
    outcome = run(*words, "--json", data_dir=data_dir, **variables)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    return outcome.json


def ids(name: str, data_dir: Path, *options: object) -> list[str]:
    command = name.replace("_", "-")
    return [row["id"] for row in run_json(command, "list", *options, data_dir=data_dir)[name]]


@pytest.mark.parametrize(
    ("words", "message", "facts"),
    [
        ("duplicates list", "no duplicates", {"duplicates": []}),
        ("duplicates list --near", "no near matches", {"near_matches": []}),
        ("dead-letters list", "no open dead letters", {"dead_letters": []}),
        ("dead-letters replay", "no open dead letters to replay", {"dead_letters": []}),
    ],
)
def test_before_any_import_the_lists_are_empty_and_nothing_is_created(
    tmp_path: Path, words: str, message: str, facts: dict[str, Any]
) -> None:
    assert run(*words.split(), data_dir=tmp_path / "data").stdout == f"{message}\n"
    assert facts.items() <= run_json(*words.split(), data_dir=tmp_path / "data").items()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["duplicates show", "duplicates restore", "duplicates confirm", "dead-letters show"]
)
@pytest.mark.parametrize("exists", [True, False])
def test_an_unknown_id_is_refused(
    words: str, exists: bool, imported_dir: Path, tmp_path: Path
) -> None:
    folder = imported_dir if exists else tmp_path / "data"
    outcome = run(*words.split(), "0123456789", "--json", data_dir=folder)
    kind = "duplicate" if words.startswith("dup") else "dead letter"
    assert outcome.exit_code == 2
    assert outcome.json["error"] == f"there is no {kind} with the id '0123456789'"
    assert f"`tautulli-pipeline {words.split(maxsplit=1)[0]} list`" in outcome.json["hint"]
    assert [path.name for path in tmp_path.iterdir()] == ["imported"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            "duplicates list",
            "2023-11-15 06:33 Mira A title that does not fit on any line of a terminal, with "
            "\\x1b[31m colors\\nand lines on Chrome; differs in reference_id, title, full_title, "
            "guid same item, user and start 1 to 1 of 1 duplicates "
            "`tautulli-pipeline duplicates show ID` compares one with the row it matched",
        ),
        (
            "duplicates list --near",
            "2023-11-15 12:06 Mira Film 5 20 s apart; both tautulli-import on Chrome differs in "
            "stopped_at, reference_id, rating_key, guid 1 to 1 of 1 near matches "
            "these plays are all in the table; nothing was changed",
        ),
        (
            "dead-letters list --reason missing --limit 1 --offset 1",
            "2023-11-15 14:53 mira (no title) on Chrome; row 6 of session_history missing title "
            "2 to 2 of 2 open dead letters "
            "`tautulli-pipeline dead-letters show ID` shows one whole; `replay` tries them again",
        ),
        (
            "dead-letters list --state all --limit 1",
            "2023-11-15 17:40 mira A title that does not fit on any line of a terminal, with "
            "\\x1b[31m colors\\nand lines on Chrome; row 7 of session_history missing user_id "
            "1 to 1 of 2 dead letters; continue with --offset 1 "
            "`tautulli-pipeline dead-letters show ID` shows one whole; `replay` tries them again",
        ),
    ],
)
def test_lists_name_the_plays_within_80_columns(words: str, shown: str, imported_dir: Path) -> None:
    exit_code, (heading, *lines) = in_a_terminal(*words.split(), data_dir=imported_dir)
    assert exit_code == 0
    titles = ["started", "(UTC)", "user", "play"]
    assert heading.split() == (titles if "--near" in words else ["id", *titles])
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert (text if "--near" in words else text.split(maxsplit=1)[1]) == shown


def test_show_escapes_control_characters_and_folds_long_values(imported_dir: Path) -> None:
    (duplicate,) = ids("duplicates", imported_dir)
    newest = ids("dead_letters", imported_dir)
    for command, row_id in (("duplicates", duplicate), *(("dead-letters", n) for n in newest)):
        exit_code, lines = in_a_terminal(command, "show", row_id[:8], data_dir=imported_dir)
        assert exit_code == 0
        assert lines[0].split() == ["id", row_id]
        assert max(map(len, lines)) <= 80
        shown = "".join(lines)
        assert ("colors" in shown) == ("\\x1b[31m" in shown)


def test_a_page_shows_how_to_get_the_next_one(imported_dir: Path) -> None:
    first = run_json("dead-letters", "list", "--limit", 1, data_dir=imported_dir)
    assert (first["total"], first["limit"], first["offset"], len(first["dead_letters"])) == (
        2,
        1,
        0,
        1,
    )
    shown = run("dead-letters", "list", "--limit", 1, data_dir=imported_dir).stdout
    assert "\n1 to 1 of 2 open dead letters; continue with --offset 1\n" in shown
    last = run("dead-letters", "list", "--limit", 1, "--offset", 1, data_dir=imported_dir).stdout
    assert "\n2 to 2 of 2 open dead letters\n" in last
    assert ids("dead_letters", imported_dir, "--offset", 1) != ids("dead_letters", imported_dir)[:1]
    beyond = run("dead-letters", "list", "--offset", 9, data_dir=imported_dir).stdout
    assert beyond == "no open dead letters at offset 9; the total is 2\n"


def test_filters_are_validated_and_near_accepts_none(imported_dir: Path) -> None:
    for options, words in (
        (("--reason", "no reason"), "'no reason' is not one of"),
        (("--limit", 0), "0 is not in the range"),
        (("--near", "--layer", "cache"), "--near can be combined only with --limit and --offset"),
    ):
        outcome = run("duplicates", "list", *options, "--json", data_dir=imported_dir)
        assert outcome.exit_code == 2
        assert words in outcome.json["error"]
    assert ids("dead_letters", imported_dir, "--reason", "missing user") != []
    assert ids("dead_letters", imported_dir, "--origin", "playback.plex.movie") == []
    near = run_json("duplicates", "list", "--near", data_dir=imported_dir)["near_matches"]
    assert [(pair["title"], pair["seconds_apart"]) for pair in near] == [("Film 5", 20)]


def test_json_names_the_plays_too(imported_dir: Path) -> None:
    (duplicate,) = run_json("duplicates", "list", data_dir=imported_dir)["duplicates"]
    shown = run_json("duplicates", "show", duplicate["id"], data_dir=imported_dir)
    play_8 = (LONG, None, "Mira", "2023-11-15T06:33:20Z", "Chrome")
    names = ("title", "show", "user", "started_at", "player")
    assert tuple(duplicate[name] for name in names) == play_8
    assert tuple(shown[name] for name in names) == play_8
    assert duplicate["differs_in"] == ["reference_id", "title", "full_title", "guid"]
    assert duplicate["differs_in"] == list(shown["differences"])
    letters = run_json("dead-letters", "list", data_dir=imported_dir)["dead_letters"]
    assert [tuple(letter[name] for name in names) for letter in letters] == [
        (LONG, None, "mira", "2023-11-15T17:40:00Z", "Chrome"),
        (None, None, "mira", "2023-11-15T14:53:20Z", "Chrome"),
    ]


def test_a_warehouse_in_use_is_reported_and_nothing_changes(imported_dir: Path) -> None:
    (duplicate,) = ids("duplicates", imported_dir)
    with held_by_another_process(imported_dir / "playback.duckdb") as process_id:
        for words in (
            ("duplicates", "list"),
            ("duplicates", "restore", duplicate),
            ("dead-letters", "replay"),
        ):
            outcome = run(*words, "--json", data_dir=imported_dir)
            assert outcome.exit_code == 6
            assert f"process {process_id} (" in outcome.json["error"]
    assert query(imported_dir, "SELECT status FROM dedupe_audit_log") == [("auto_dedupe",)]


def test_a_confirmed_and_restored_duplicate_stays_restored(imported_dir: Path) -> None:
    (row_id,) = ids("duplicates", imported_dir)
    outcome = run("duplicates", "confirm", row_id[:6], data_dir=imported_dir)
    assert outcome.stdout == f"{row_id}: confirmed\n"
    again = run_json("duplicates", "confirm", row_id, data_dir=imported_dir)
    assert again == {"confirmed": [{"id": row_id, "changed": False}]}
    assert ids("duplicates", imported_dir, "--status", "user_confirmed") == [row_id]

    outcome = run("duplicates", "restore", row_id[:6], data_dir=imported_dir)
    assert outcome.stdout == f"{row_id}: restored and verified\n"
    found = "SELECT source_row_id, title, restored_at IS NOT NULL FROM playback_events"
    rows = query(imported_dir, f"{found} ORDER BY source_row_id")
    assert rows[-2:] == [(8, LONG, True), (9, "Film 5", False)]
    again = run_json("duplicates", "restore", row_id, data_dir=imported_dir)
    assert again == {"restored": [{"id": row_id, "added": False}]}

    database = imported_dir.with_name("tautulli.db")
    fresh = imported(database, "--fresh", data_dir=imported_dir)
    assert (fresh["imported"], fresh["duplicates"]["database"], fresh["rejected"]) == (0, 7, 2)
    assert query(imported_dir, f"{found} ORDER BY source_row_id") == rows
    outcome = run("duplicates", "confirm", row_id, data_dir=imported_dir)
    assert (outcome.exit_code, "it was restored" in outcome.stderr) == (2, True)
    assert ids("duplicates", imported_dir, "--reason", "event_id") == []  # exact repeats


def test_dead_letters_are_replayed_from_the_configured_or_a_given_database(
    imported_dir: Path,
) -> None:
    database = imported_dir.with_name("tautulli.db")
    unchanged = run("dead-letters", "replay", data_dir=imported_dir)
    assert unchanged.stdout.splitlines()[-1] == (
        "0 imported, 0 already in the table, 2 still dead letters"
    )
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE session_history_metadata SET title = 'Found' WHERE id = 6")
    missing = run(
        "dead-letters", "replay", "--database", "gone.db", "--json", data_dir=imported_dir
    )
    assert missing.exit_code == 3
    tried = run_json("dead-letters", "replay", data_dir=imported_dir, IMPORT_DB_PATH=database)
    assert (tried["imported"], tried["duplicate"], tried["rejected"]) == (1, 0, 1)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE session_history SET user_id = 0 WHERE id = 7")
    (row_id,) = ids("dead_letters", imported_dir)
    outcome = run(
        "dead-letters", "replay", row_id[:5], "--database", database, data_dir=imported_dir
    )
    assert outcome.stdout == "1 imported, 0 already in the table, 0 still dead letters\n"
    assert ids("dead_letters", imported_dir) == []
    assert len(ids("dead_letters", imported_dir, "--state", "closed")) == 2
    found = "SELECT source_row_id, title, friendly_name FROM playback_events"
    assert query(imported_dir, f"{found} WHERE source_row_id IN (6, 7) ORDER BY 1") == [
        (6, "Found", "Mira"),
        (7, LONG, "Local"),
    ]
    again = imported(database, data_dir=imported_dir)
    assert (again["imported"], again["duplicates"]["database"], again["rejected"]) == (0, 9, 0)


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ({}, "id x it has the same content as the row it matched"),
        (
            {"title": {"discarded": "A", "stored": "B"}},
            "id x field discarded in the table title A B",
        ),
        (
            None,
            "id x content_differs yes the row it matched is not in the table; "
            "payload of the duplicate: title A",
        ),
    ],
)
def test_show_says_once_whether_the_content_differs(
    monkeypatch: pytest.MonkeyPatch, differences: dict[str, Any] | None, words: str
) -> None:
    facts = {"id": "x", "content_differs": True, "payload": {"title": "A"}}
    monkeypatch.setattr(auditing, "_open_existing", lambda *_: nullcontext())
    monkeypatch.setattr(
        duplicates, "show_duplicate", lambda *_: facts | {"differences": differences}
    )
    shown = CliRunner().invoke(auditing.show_duplicate, ["x"], catch_exceptions=False)
    assert " ".join(shown.output.split()) == words
