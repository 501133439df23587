"""Several servers of `pipeline.toml` in one data directory, from the command line."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from tautulli_pipeline.definitions import definitions_of
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.record import ImportLog, log_of
from tautulli_pipeline.orchestration.instance import QUIET, open_instance
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import imported, outcomes, query, run

if TYPE_CHECKING:
    from pathlib import Path

HOME = [play(row_id, user_id=5) for row_id in range(1, 4)]
# The same row ids and users.
CABIN = [play(row_id, user_id=5, title="Heat", started=row_id * 7_000) for row_id in range(1, 3)]
PLAYS = "SELECT server_id, count(*) FROM playback_events GROUP BY ALL ORDER BY 1"
FILE = """
[[servers]]
id = "home"
source = "../home.db"
replaces = ["default"]

[[servers]]
id = "cabin"
source = "../cabin.db"
"""


def write(path: Path, plays: list[Any]) -> Path:
    path.unlink(missing_ok=True)
    make_database(path, plays=plays)
    return path


def of_each(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return {one["id"]: one[name] for one in summary["servers"]}


@pytest.fixture
def known(data_dir: Path) -> Path:
    """A data directory with the plays of one server, to which the file adds another."""
    source = write(data_dir.with_name("home.db"), HOME)
    assert imported(source, data_dir=data_dir)["imported"] == 3
    write(data_dir.with_name("cabin.db"), CABIN)
    (data_dir / "pipeline.toml").write_text(FILE)
    return data_dir


def test_the_file_adds_a_server_and_forgets_nothing_of_the_first_one(known: Path) -> None:
    first = imported(data_dir=known)
    assert of_each(first, "unchanged") == {"home": 3, "cabin": 0}
    assert of_each(first, "imported") == {"home": 0, "cabin": 2}
    assert (first["imported"], first["unchanged"], first["published"]) == (2, 3, 2)
    assert query(known, PLAYS) == [("cabin", 2), ("default", 3)]

    # One broken server for a night.
    write(known.with_name("home.db"), [*HOME, play(4, user_id=5)])
    cabin = known.with_name("cabin.db")
    whole = cabin.read_bytes()
    cabin.write_bytes(b"broken")
    (known / "pipeline.toml").write_text(
        FILE.replace('id = "home"', 'id = "house"').replace('["default"]', '["default", "home"]')
    )
    night = run("import", "--json", data_dir=known)
    assert night.exit_code == 3
    assert night.json["error"].startswith("cabin: ")
    assert night.json["hint"]
    assert of_each(night.json, "status") == {"house": "completed", "cabin": "failed"}
    assert of_each(night.json, "imported") == {"house": 1, "cabin": 0}
    # Its range of ids has changed, and its rows are in the table already.
    assert night.json["duplicates"] == {"stream": 0, "cache": 0, "database": 3}
    assert night.json["servers"][1]["error"]
    assert query(known, PLAYS) == [("cabin", 2), ("default", 3), ("house", 1)]
    health = run("health", data_dir=known)
    assert (health.exit_code, "cabin: the last import failed" in health.stderr) == (1, True)
    assert of_each(run("status", "--json", data_dir=known).json, "status")["cabin"] == "failed"

    # The next nights: nothing is published.
    cabin.write_bytes(whole)
    for _ in range(2):
        quiet = imported(data_dir=known)
        assert (quiet["status"], quiet["published"], quiet["unchanged"]) == ("completed", 0, 6)
    assert run("health", data_dir=known).exit_code == 0

    # Without the file, the first server is as it was.
    (known / "pipeline.toml").unlink()
    alone = imported(known.with_name("home.db"), data_dir=known, IMPORT_SERVER_ID="house")
    assert outcomes(alone) == {"unchanged": 4}


@pytest.mark.slow
def test_one_server_is_imported_reset_or_refused_by_its_id(known: Path) -> None:
    one = imported("--server", "cabin", data_dir=known)
    assert of_each(one, "imported") == {"cabin": 2}
    unknown = run("import", "--server", "barn", data_dir=known)
    assert (unknown.exit_code, "there is no server barn" in unknown.stderr) == (2, True)
    assert "known ids: home, cabin" in unknown.stderr
    unclear = run("import", known.with_name("other.db"), data_dir=known)
    assert (unclear.exit_code, "not clear which server" in unclear.stderr) == (2, True)
    stopped = run("stop", "--server", "cabin", "--json", data_dir=known).json
    assert (stopped["server_id"], stopped["stop_requested"]) == ("cabin", False)

    forgotten = run("reset", "--server", "cabin", "--json", data_dir=known).json["forgotten"]
    assert forgotten["partitions"] == 1
    status = run("status", data_dir=known).stdout.splitlines()
    assert status[0].startswith("home: completed: imported 3 plays")
    assert status[1].startswith("cabin: pending: nothing has been imported yet")
    again = imported(data_dir=known)
    assert of_each(again, "unchanged") == {"home": 3, "cabin": 0}
    assert again["servers"][1]["duplicates"]["database"] == 2


def test_a_bad_file_is_refused_before_anything_starts(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "pipeline.toml").write_text('[[servers]]\nid = "my plex"\nsource = "a.db"\n')
    refused = run("import", "--json", data_dir=data_dir)
    assert refused.exit_code == 2
    assert refused.json["error"].endswith(
        "pipeline.toml is not usable: servers[0].id = 'my plex' is not allowed: it must be 1 to "
        "32 characters of a-z, 0-9 and _ for a server, and the user id for an account"
    )
    assert [path.name for path in data_dir.iterdir()] == ["pipeline.toml"]


# Databases that Tautulli has written, of two servers.
REAL = {"home": "v2.17.2", "cabin": "v2.12.5"}
NIGHTS = 5
BROKEN_NIGHT = 3
AUDITED = "SELECT count(*) FROM dedupe_audit_log"


@pytest.fixture
def real(data_dir: Path) -> Path:
    """A data directory whose file lists two servers with real databases."""
    data_dir.mkdir()
    for server, name in REAL.items():
        tautulli_databases.build(name, data_dir.with_name(f"{server}.db"))
    (data_dir / "pipeline.toml").write_text(FILE.replace('replaces = ["default"]\n', ""))
    return data_dir


def plays_of(server: str) -> int:
    return len(tautulli_databases.answers(REAL[server]))


def test_two_servers_are_imported_for_five_nights_and_one_is_broken_for_one(real: Path) -> None:
    first = imported(data_dir=real)
    assert of_each(first, "imported") == {server: plays_of(server) for server in REAL}
    stored, audited = query(real, PLAYS), query(real, AUDITED)
    cabin = real.with_name("cabin.db")
    whole = cabin.read_bytes()
    for night in range(2, NIGHTS + 1):
        is_broken = night == BROKEN_NIGHT
        cabin.write_bytes(whole[:5_000] if is_broken else whole)
        found = run("import", "--json", data_dir=real)
        assert found.exit_code == (3 if is_broken else 0)
        assert found.json["published"] == 0
        assert of_each(found.json, "status") == {
            "home": "completed",
            "cabin": "failed" if is_broken else "completed",
        }
        assert of_each(found.json, "unchanged")["home"] == plays_of("home")
        assert run("health", data_dir=real).exit_code == (1 if is_broken else 0)
    assert (query(real, PLAYS), query(real, AUDITED)) == (stored, audited)


@pytest.mark.slow
def test_the_jobs_of_the_schedules_publish_nothing_from_the_second_night_on(
    real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(real))
    settings = load_settings()
    names = [Names(one.server) for one in settings.each_server]
    made = definitions_of(tuple(names))
    published = []
    with open_instance(real) as instance, stream_address(settings):
        for _ in range(NIGHTS):
            for one in names:
                done = made.resolve_job_def(one.job).execute_in_process(
                    instance=instance, run_config=QUIET, raise_on_error=False
                )
                assert done.success
            records = [log_of(one).read() for one in settings.each_server]
            found = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=names[0].stream_key), limit=1000
            )
            published.append(len(found.records))
            assert all(record and record.status.value == "completed" for record in records)
    assert set(published) == {published[0]}
    assert dict(query(real, PLAYS)) == {server: plays_of(server) for server in REAL}


def test_another_import_is_refused_while_one_server_is_imported(data_dir: Path) -> None:
    home, cabin = (data_dir.with_name(f"{name}.db") for name in ("home", "cabin"))
    data_dir.mkdir()
    (data_dir / "pipeline.toml").write_text(FILE)
    with ImportLog(data_dir, "home").exclusive(home):
        for arguments in ((), ("--server", "cabin"), (cabin,)):
            refused = run("import", *arguments, "--json", data_dir=data_dir)
            assert refused.exit_code == 4
            assert f"an import of {home} is already running" in refused.json["error"]


def test_a_new_data_directory_notes_why_a_server_could_not_be_imported(tmp_path: Path) -> None:
    file, data_dir = tmp_path / "servers.toml", tmp_path / "new" / "data"
    file.write_text('[[servers]]\nid = "home"\nsource = "home.db"\n')
    (tmp_path / "new").mkdir()
    config = {"PIPELINE_CONFIG": file}
    failed = run("import", data_dir=data_dir, **config)
    assert (failed.exit_code, failed.stdout) == (3, "home: failed\n")
    noted = sorted(str(path.relative_to(data_dir)) for path in data_dir.rglob("*.*"))
    assert noted == ["import.lock", "servers/home/import.json"]
    status = run("status", data_dir=data_dir, **config).stdout
    assert status.startswith(f"home: failed: cannot read '{tmp_path}/home.db': it does not exist;")


def lists(data_dir: Path, **servers: str) -> None:
    """Write a file that lists these servers; the sources are followed by other keys."""
    (data_dir / "pipeline.toml").write_text(
        "".join(f'[[servers]]\nid = "{one}"\nsource = {rest}\n' for one, rest in servers.items())
    )


@pytest.mark.slow
def test_ids_that_come_go_and_change_lose_and_double_nothing(data_dir: Path) -> None:
    data_dir.mkdir()
    home, cabin = '"../home.db"', '"../cabin.db"'
    for server, plays in (("home", HOME), ("cabin", CABIN)):
        write(data_dir.with_name(f"{server}.db"), plays)
    lists(data_dir, home=home, cabin=cabin)
    assert imported(data_dir=data_dir)["imported"] == 5

    # The id has changed: with and without its earlier one.
    lists(data_dir, house=home, cabin=cabin)
    refused = run("import", "--json", data_dir=data_dir)
    assert (refused.exit_code, refused.json["published"]) == (2, 0)
    assert 'add replaces = ["home"] to house' in refused.json["hint"]
    assert of_each(refused.json, "status") == {"house": "failed", "cabin": "completed"}
    lists(data_dir, house=f'{home}\nreplaces = ["home"]', cabin=cabin)
    renamed = imported(data_dir=data_dir)
    assert (renamed["published"], renamed["unchanged"]) == (0, 5)

    # One is removed, and added again with a new play.
    lists(data_dir, house=f'{home}\nreplaces = ["home"]')
    assert imported(data_dir=data_dir)["unchanged"] == 3
    write(data_dir.with_name("cabin.db"), [*CABIN, play(3, user_id=5, title="Heat", started=9)])
    lists(data_dir, house=f'{home}\nreplaces = ["home"]', cabin=cabin)
    assert of_each(imported(data_dir=data_dir), "imported") == {"house": 0, "cabin": 1}

    # The same history under two ids.
    shutil.copy(data_dir.with_name("home.db"), data_dir.with_name("copy.db"))
    lists(data_dir, house=f'{home}\nreplaces = ["home"]', cabin=cabin, copy='"../copy.db"')
    twice = run("import", "--json", data_dir=data_dir)
    assert (twice.exit_code, twice.json["published"]) == (2, 0)
    assert "check the sources of house and copy" in twice.json["hint"]
    assert query(data_dir, PLAYS) == [("cabin", 3), ("home", 3)]
