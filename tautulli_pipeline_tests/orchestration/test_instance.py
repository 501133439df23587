"""The Dagster instance of a data directory, and the environment of Dagster's own programs."""

from __future__ import annotations

import os
import sys

import pytest
import yaml

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.orchestration.instance import (
    dagster_home,
    open_instance,
    unheard,
)


def test_a_data_directory_has_storage_once_an_instance_was_opened(data_dir):
    assert not DataDir(data_dir).run_history.exists()
    with open_instance(data_dir) as instance:
        assert instance.get_runs() == []
    assert DataDir(data_dir).run_history.is_dir()


def test_dagsters_programs_are_told_where_the_data_is(data_dir, monkeypatch):
    data_dir.mkdir()
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    environment = dagster_home(data_dir)
    assert environment["DAGSTER_HOME"] == environment["PIPELINE_DATA_DIR"] == str(data_dir)
    assert environment["PYTHONSAFEPATH"] == "1"  # no file of the folder stands for a module
    assert environment["SOME_TOKEN"] == "s3cret"
    assert os.environ["PIPELINE_DATA_DIR"] != str(data_dir)


def test_dagsters_programs_use_the_storage_and_the_launcher_of_the_package(data_dir):
    data_dir.mkdir()
    (data_dir / "dagster.yaml").write_text("of an older version")
    dagster_home(data_dir)
    config = yaml.safe_load((data_dir / "dagster.yaml").read_text())
    assert config["run_launcher"]["class"] == "WatchfulRunLauncher"
    assert "PipelineStorage" in str(config["storage"])


def test_what_is_written_past_the_loggers_is_not_heard(capsys):
    with unheard():
        sys.stderr.write("a traceback\n")
    with pytest.raises(ZeroDivisionError), unheard():
        sys.stderr.write(f"{1 / 0}\n")
    sys.stderr.write("afterwards\n")
    assert capsys.readouterr().err == "afterwards\n"
