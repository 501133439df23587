"""What each server of the configuration file has in Dagster, and what is carried over to it."""

from __future__ import annotations

import dagster as dg
import pytest

from tautulli_pipeline.definitions import definitions_of
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.plan import Destination, Finished
from tautulli_pipeline.orchestration.history import DATA_VERSION, history_of
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import ONLY, Names
from tautulli_pipeline.orchestration.sensors import history_sensor_of, import_schedule_of
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import query

HOME, CABIN = Names("home"), Names("cabin")
FILE = """
[[servers]]
id = "home"
source = "../home.db"
replaces = ["old-home"]

[[servers]]
id = "cabin"
source = "../cabin.db"
"""
FIRST, SECOND = (Grid(10).partition_of(row_id).key for row_id in (1, 11))
# Where the plays of a server go.
OLD, NEW, OTHER = (
    Destination(server, "warehouse", "stream").place for server in ("old-home", "home", "cabin")
)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def servers(tmp_path, monkeypatch):
    """The settings of a data directory whose file lists two servers, with databases."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pipeline.toml").write_text(FILE)
    for n, name in enumerate(("home", "cabin"), 1):
        plays = [play(row_id, user_id=5, started=n * 1_000 + row_id) for row_id in range(1, 4)]
        make_database(tmp_path / f"{name}.db", plays=plays)
    for name in ("IMPORT_DB_PATH", "IMPORT_ENABLED", "PIPELINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    return load_settings()


def publish(instance, names, key, *publications):
    """Record a partition as an import does."""
    text = " ".join(publications)
    for asset, version in ((names.history_key, "digest"), (names.stream_key, text)):
        instance.report_runless_asset_event(
            dg.AssetMaterialization(asset, partition=key, tags={DATA_VERSION: version})
        )
    instance.add_dynamic_partitions(names.partitions, [key])


def materialized(instance, names):
    return set(instance.get_materialized_partitions(names.stream_key))


def test_each_server_has_assets_a_job_a_sensor_and_a_schedule_that_lead_to_one_table():
    made = definitions_of((HOME, CABIN))
    specs = {spec.key.to_user_string(): spec for spec in made.resolve_all_asset_specs()}
    for server in ("home", "cabin"):
        history, stream = (
            specs[f"{server}/{name}"] for name in ("session_history", "playback_stream")
        )
        assert f"{server}/tautulli_database" in specs
        assert (
            history.partitions_def.name == stream.partitions_def.name == f"history_{server}_ranges"
        )
        job = made.resolve_job_def(f"import_{server}_job")
        assert [node.name for node in job.nodes] == [f"publish_{server}_partitions"]
        starts = {one.name: one.job_name for one in (*made.sensors, *made.schedules)}
        assert starts[f"new_{server}_history_sensor"] == job.name
        assert starts[f"import_{server}_schedule"] == job.name
    upstream = [dep.asset_key.to_user_string() for dep in specs["playback_events"].deps]
    assert upstream == ["home/playback_stream", "cabin/playback_stream"]
    assert "session_history" not in specs
    made.resolve_job_def("consume_job")


def test_finished_partitions_are_carried_over_when_the_file_is_introduced(instance, servers):
    (home,), (cabin,) = servers.of_server("home"), servers.of_server("cabin")
    publish(instance, ONLY, FIRST, f"i1:{OLD}:a", f"i2:{OTHER}:b")
    publish(instance, ONLY, SECOND, f"i3:{OTHER}:c")

    history = history_of(instance, home)
    assert history.grid() == Grid(10)
    assert history.finished(NEW, [OLD]) == {FIRST: Finished("i1", f"{NEW}:a")}
    history.show([FIRST], NEW)
    assert materialized(instance, HOME) == {FIRST}
    assert instance.get_dynamic_partitions(HOME.partitions) == [FIRST]

    other = history_of(instance, cabin)
    assert set(other.finished(OTHER)) == {FIRST, SECOND}
    other.show([FIRST, SECOND], OTHER)
    assert materialized(instance, CABIN) == {FIRST, SECOND}
    # The old records stay, so that the file can be removed again.
    assert materialized(instance, ONLY) == {FIRST, SECOND}
    assert history_of(instance, home).finished(NEW, [OLD]) == {FIRST: Finished("i1", f"{NEW}:a")}


def test_a_renamed_server_keeps_its_finished_partitions(instance, servers):
    publish(instance, Names("old-home"), FIRST, f"i1:{OLD}:a")
    (home,) = servers.of_server("home")
    assert history_of(instance, home).finished(NEW, [OLD]) == {FIRST: Finished("i1", f"{NEW}:a")}


def test_what_is_forgotten_is_not_carried_over_again(instance, servers):
    publish(instance, ONLY, FIRST, f"i1:{NEW}:a", f"i2:{OTHER}:b")
    (home,), (cabin,) = servers.of_server("home"), servers.of_server("cabin")
    history = history_of(instance, home)
    history.finished(NEW)
    history.show([FIRST], NEW)
    assert history.forget() == 1
    assert history_of(instance, home).finished(NEW) == {}
    assert history_of(instance, home).grid() is None
    assert set(history_of(instance, cabin).finished(OTHER)) == {FIRST}


def test_sensors_and_schedules_of_all_servers_act_on_their_own(servers, monkeypatch):
    monkeypatch.setenv("IMPORT_ENABLED", "true")
    made = definitions_of((HOME, CABIN))
    with open_instance(servers.data_dir) as instance:
        for names in (HOME, CABIN):
            data = history_sensor_of(names).evaluate_tick(
                dg.build_sensor_context(instance=instance, definitions=made)
            )
            assert len(data.run_requests) == 1
            (added,) = data.dynamic_partitions_requests
            assert added.partitions_def_name == names.partitions
        instance.create_run_for_job(
            made.resolve_job_def(HOME.job), status=dg.DagsterRunStatus.STARTED
        )
        skips = {}
        for names in (HOME, CABIN):
            context = dg.build_schedule_context(instance=instance)
            skips[names.server] = import_schedule_of(names).evaluate_tick(context).skip_message
    assert skips == {"home": "an import is queued or running", "cabin": None}


def test_the_statistics_wait_for_the_imports_of_all_servers(servers):
    made = definitions_of((HOME, CABIN))
    servers.layout.stream.mkdir()
    sensor = next(one for one in made.sensors if one.name == "stream_backlog_sensor")
    with open_instance(servers.data_dir) as instance:
        instance.create_run_for_job(
            made.resolve_job_def(CABIN.job), status=dg.DagsterRunStatus.STARTING
        )
        data = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, definitions=made))
    assert data.skip_message == "imports of other servers are queued and come first"


def test_the_job_of_a_server_imports_its_plays(instance, servers):
    made = definitions_of((HOME, CABIN))
    with stream_address(servers):
        for names in (CABIN, HOME):
            done = made.resolve_job_def(names.job).execute_in_process(
                instance=instance, run_config=QUIET, raise_on_error=False
            )
            assert done.success
    assert query(
        servers.data_dir, "SELECT server_id, count(*) FROM playback_events GROUP BY 1 ORDER BY 1"
    ) == [
        ("cabin", 3),
        ("home", 3),
    ]
    assert [len(materialized(instance, names)) for names in (HOME, CABIN, ONLY)] == [1, 1, 0]
