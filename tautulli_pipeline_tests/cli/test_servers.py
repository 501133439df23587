"""What commands say about three servers, one of them broken, in a terminal of 80 columns."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tautulli_pipeline.cli import servers as servers_module
from tautulli_pipeline.cli.controlling import run_reset, run_stop
from tautulli_pipeline.cli.importing import Wanted
from tautulli_pipeline.cli.servers import run_imports
from tautulli_pipeline.cli.status import show_health, show_status
from tautulli_pipeline.configuration import parse_configuration
from tautulli_pipeline.errors import PipelineError, SourceError
from tautulli_pipeline.imports.record import ImportRecord, Outcomes, Status, log_of
from tautulli_pipeline.settings import Settings

IDS = ("home", "barn", "cabin")
FILE = "\n".join(f'[[servers]]\nid = "{one}"\nsource = "/media/{one}.db"\n' for one in IDS)
BEGAN = datetime(2026, 1, 1, 4, tzinfo=UTC)
BROKEN = SourceError("cannot read '/media/barn.db': it is not a SQLite database", hint="see it")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


def printed(command, *arguments, **options):
    """Return the lines that a command prints on a terminal of 80 columns."""
    with redirect_stdout(Terminal()) as terminal:
        command(*arguments, as_json=False, **options)
    found = terminal.getvalue().splitlines()
    assert all(len(line) <= 80 for line in found if "/" not in line)
    return found


@pytest.fixture
def three(tmp_path):
    settings = Settings(pipeline_data_dir=tmp_path)
    return settings.configured(parse_configuration(FILE, tmp_path / "pipeline.toml"))


def record_of(settings, **changes):
    record = ImportRecord.begin(settings.import_db_path, settings.server, fresh=False)
    record = replace(record, status=Status.COMPLETED, started_at=BEGAN, elapsed_seconds=10.0)
    return replace(record, ended_at=BEGAN, last_completed_at=BEGAN, **changes)


@pytest.fixture
def imported(three):
    """Three servers: one has new plays, one cannot be read, one has nothing new."""
    home, barn, cabin = three.each_server
    log_of(home).write(record_of(home, total_records=40, outcomes=Outcomes(imported=40)))
    log_of(cabin).write(record_of(cabin, unchanged=7, checked_at=BEGAN))
    log = log_of(barn)
    with pytest.raises(SourceError), log.exclusive(Path("x")), log.noting_failure("x", "barn"):
        raise BROKEN
    return three


def test_status_has_a_line_for_each_server(imported):
    assert printed(show_status, imported)[:-2] == [
        "home: completed: imported 40 plays from /media/home.db in 10.0 s (4 plays/s);",
        "  ended 2026-01-01 04:00:00 UTC",
        "barn: failed: cannot read '/media/barn.db': it is not a SQLite database; see it",
        "cabin: completed: nothing new: 7 plays of /media/cabin.db are unchanged; ended",
        "  2026-01-01 04:00:00 UTC; nothing new since, at 2026-01-01 04:00:00 UTC",
    ]


def test_status_says_since_when_a_broken_server_brings_nothing(three):
    home = three.each_server[0]
    log_of(home).write(record_of(home, unchanged=7, refused="it is away"))
    assert printed(show_status, three)[:3] == [
        "home: failed: it is away; last completed 2026-01-01 04:00:00 UTC",
        "barn: pending: nothing has been imported yet",
        "cabin: pending: nothing has been imported yet",
    ]


def test_a_server_that_could_never_be_read_is_unhealthy_and_is_no_import_to_resume(imported):
    with pytest.raises(PipelineError) as caught:
        show_health(imported, None, as_json=False)
    assert caught.value.message == (
        "barn: the last import failed: "
        "cannot read '/media/barn.db': it is not a SQLite database; see it"
    )
    log = log_of(imported.each_server[1])
    assert not log.read().resumable
    assert log.continue_or_begin("x", "barn", fresh=False).import_id


def test_the_data_directory_is_not_what_a_server_lacks(three):
    with pytest.raises(PipelineError) as caught:
        show_health(three, None, as_json=False)
    assert caught.value.message == (
        "home: no import has completed yet (not healthy either: barn, cabin)"
    )


def test_health_names_the_oldest_of_the_last_imports(imported):
    barn = imported.each_server[1]
    log_of(barn).write(record_of(barn, unchanged=1))
    assert printed(show_health, imported, None) == [
        "the oldest of the last imports completed at 2026-01-01 04:00:00 UTC"
    ]


def test_stop_says_which_server_is_imported_instead(imported):
    said = printed(run_stop, imported, server="barn")
    home = imported.each_server[0]
    with log_of(home).exclusive(Path("/media/home.db")):
        said += printed(run_stop, imported, server="cabin")
    assert said == [
        "no import of barn is running; status of the last one: failed",
        "no import of cabin is running, but one of home is; status of the last one:",
        "completed",
    ]


def test_reset_names_the_server(imported):
    text = " ".join(printed(run_reset, imported, server="barn"))
    assert text.startswith("deleted the progress of barn saved in ")
    assert text.endswith("the next import reads every play of barn again")
    again = printed(run_reset, imported, server="barn")
    assert " ".join(again).startswith("nothing to reset of barn in ")
    assert log_of(imported.each_server[0]).read() is not None


def test_an_import_says_of_each_server_what_became_of_it(three, monkeypatch):
    """The attempts are faked, because only their results are shown."""
    made = {
        "home": {
            "total_records": 45,
            "outcomes": Outcomes(imported=40, duplicates_database=3, rejected=2, logged=1),
        },
        "cabin": {"unchanged": 7},
    }

    def attempt(settings, _wanted, attempts, **_others):
        def become():
            if settings.server == "barn":
                raise BROKEN
            return record_of(settings, **made[settings.server])

        attempts.run(settings, become)

    monkeypatch.setattr(servers_module, "_import", attempt)
    found = []

    def run(*, as_json):
        with pytest.raises(SourceError) as caught:
            run_imports(three, three.each_server, Wanted(), as_json=as_json, began_at=0.0)
        found.append(caught.value)

    assert printed(run) == [
        "home: imported 40 plays from /media/home.db in 10.0 s (4 plays/s); 3 duplicates",
        "  already in the table; 2 rejected",
        "barn: failed",
        "cabin: nothing new: 7 plays of /media/cabin.db are unchanged",
        "list the duplicates with `tautulli-pipeline duplicates list`",
        "list the rejected plays with `tautulli-pipeline dead-letters list`",
        "the plays are in the table playback_events of",
        f"{three.warehouse_path}",
    ]
    assert found[0].message.startswith("barn: cannot read ")
    statuses = [one["status"] for one in found[0].facts["servers"]]
    assert statuses == ["completed", "failed", "completed"]
    assert list(three.data_dir.iterdir()) == []
