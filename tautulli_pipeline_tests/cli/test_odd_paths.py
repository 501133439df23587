"""Any path works, for the data directory, the warehouse and the source."""

from __future__ import annotations

import duckdb
import pytest

from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import imported, nothing_runs, outcomes, run

NAMES = [
    pytest.param("%41?mode=ro#x", marks=pytest.mark.slow),
    'it\'s a "q" [é]* a%20b&c;d=e\\f',
    pytest.param("?cache=shared&uri=false", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", NAMES)
def test_any_path_works(tmp_path, name):
    home = tmp_path / name
    home.mkdir()
    database, data_dir = home / f"{name}.db", home / f"data{name}"
    make_database(database, plays=[play(1), play(2)])
    content, paths = database.read_bytes(), {"DUCKDB_PATH": home / f"{name}.duckdb"}
    assert outcomes(imported(database, data_dir=data_dir, **paths))["imported"] == 2
    again = imported(database, "--fresh", data_dir=data_dir, **paths)
    assert sum(again["duplicates"].values()) == 2
    assert run("status", "--json", data_dir=data_dir, **paths).json["status"] == "completed"
    assert run("duplicates", "list", "--json", data_dir=data_dir, **paths).exit_code == 0
    assert run("validate", database, "--json", data_dir=data_dir, **paths).json["new"] == 0
    reset = run("reset", "--json", data_dir=data_dir, **paths).json
    assert reset["forgotten"]["partitions"] == 1
    assert nothing_runs(data_dir)
    with duckdb.connect(paths["DUCKDB_PATH"], read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM playback_events").fetchall() == [(2,)]
    assert database.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert {path.name for path in home.iterdir()} == {
        *(f"{name}.db", f"{name}.duckdb", f"data{name}"),
    }
