"""The Dagster instance of a data directory, and the environment of Dagster's own programs."""

from __future__ import annotations

import os

import yaml

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.orchestration.instance import dagster_home, limit_pools, open_instance


def test_opening_an_instance_creates_its_storage(data_dir):
    assert not DataDir(data_dir).run_history.exists()
    with open_instance(data_dir) as instance:
        assert instance.get_runs() == []
    assert DataDir(data_dir).run_history.is_dir()


def test_dagster_home_sets_the_directories_and_keeps_the_environment(data_dir, monkeypatch):
    data_dir.mkdir()
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    environment = dagster_home(data_dir)
    assert environment["DAGSTER_HOME"] == environment["PIPELINE_DATA_DIR"] == str(data_dir)
    assert environment["PYTHONSAFEPATH"] == "1"  # files in the folder cannot shadow modules
    assert environment["SOME_TOKEN"] == "s3cret"
    assert os.environ["PIPELINE_DATA_DIR"] != str(data_dir)


def test_dagster_home_writes_the_current_configuration(data_dir):
    data_dir.mkdir()
    (data_dir / "dagster.yaml").write_text("of an older version")
    dagster_home(data_dir)
    config = yaml.safe_load((data_dir / "dagster.yaml").read_text())
    assert config["run_launcher"]["class"] == "WatchfulRunLauncher"
    assert "PipelineStorage" in str(config["storage"])


def test_the_pools_have_a_limit_before_the_first_run(data_dir):
    with open_instance(data_dir) as instance:
        # Dagster reads the pools that have a limit before it gives one to the pools of new runs.
        limit_pools(instance)
        limit_pools(instance)
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {"tautulli_import": 1, "duckdb": 1}
