"""An invalid value for every variable, on the real command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.command import imported, run

if TYPE_CHECKING:
    from pathlib import Path

NAME = "a name without whitespace, dots, slashes, * or >"
HOME = "a path below an existing home directory"
BAD = {
    "IMPORT_ENABLED": ("perhaps", "true or false"),
    "IMPORT_DB_PATH": ("~nobody-here/tautulli.db", HOME),
    "IMPORT_BATCH_SIZE": ("100001", "a whole number from 1 to 100000"),
    "IMPORT_DRY_RUN": ("2", "true or false"),
    "IMPORT_AUTO_START": ("y e s", "true or false"),
    "TAUTULLI_API_KEY_FILE": ("~nobody-here/key", HOME),
    "TAUTULLI_TLS_CA": ("~nobody-here/ca.pem", HOME),
    "TAUTULLI_MAX_AGE_HOURS": ("a day", "a number from 0 to 8760"),
    "PIPELINE_CONFIG": ("~nobody-here/pipeline.toml", HOME),
    "PIPELINE_DATA_DIR": ("~nobody-here/data", HOME),
    "PIPELINE_TIMEZONE": ("Berlin", "the name of a time zone, such as Europe/Berlin"),
    "DUCKDB_PATH": ("~nobody-here/playback.duckdb", HOME),
    "PIPELINE_PASSWORD_FILE": ("~nobody-here/password", HOME),
    "NATS_STREAM": ("two words", NAME),
    "NATS_DURABLE_NAME": ("a.b", NAME),
    "NATS_DUPLICATE_WINDOW_SECONDS": ("0", "a number from 0.1 to 86400"),
    "DEDUP_WINDOW_SECONDS": ("inf", "a number from 0 to 86400"),
    "DEDUP_MAX_ENTRIES": ("many", "a whole number from 0 to 10000000"),
}
# These accept any text. Only a server can reject it.
ANY_TEXT = {
    *("IMPORT_SERVER_ID", "NATS_URL", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN"),
    *("PIPELINE_ALLOWED_HOSTS", "TAUTULLI_API_KEY", "IMPORT_SERVER_REPLACES"),
}
FILES = {"NATS_CREDS", "NATS_TLS_CA"}


def test_the_cases_cover_every_variable() -> None:
    assert BAD.keys() | ANY_TEXT | FILES == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("variable", BAD)
def test_an_invalid_value_is_reported_with_its_name_and_the_allowed_values(
    variable: str, data_dir: Path
) -> None:
    value, allowed = BAD[variable]
    given = {
        variable: value,
        "NATS_PASSWORD": "hunter2",
        "NATS_TOKEN": "s.e.c.r.e.t",
    }
    outcome = run("status", "--json", data_dir=data_dir, **given)
    assert outcome.exit_code == 2
    assert outcome.json == {
        "error": f"{variable}={value!r} is not usable: it must be {allowed}",
        "hint": f"set {variable} to an allowed value, or unset it to use the default",
    }
    assert not {"hunter2", "s.e.c.r.e.t"} & set(outcome.stderr.split())
    assert not data_dir.exists()


def test_an_empty_value_means_the_default(data_dir: Path) -> None:
    empty = {name.upper(): "" for name in Settings.model_fields} | {"PIPELINE_DATA_DIR": data_dir}
    assert run("status", data_dir=data_dir, **empty).exit_code == 0


def test_an_empty_database_path_means_no_database(data_dir: Path) -> None:
    outcome = run("import", "--json", data_dir=data_dir, IMPORT_DB_PATH="")
    assert (outcome.exit_code, outcome.json["error"]) == (2, "no database given")


def test_a_different_batch_size_is_ignored_with_a_notice(data_dir: Path) -> None:
    database = data_dir.with_name("tautulli.db")
    make_demo_database(database, 30)
    assert imported(database, "--batch-size", 10, data_dir=data_dir)["imported"] == 30
    notice = (
        f"the batch size stays at 10 records, as set by the first import of {data_dir}; "
        "run `tautulli-pipeline reset` to use {}\n"
    )
    for variables, expected in (({"IMPORT_BATCH_SIZE": 20}, notice.format(20)), ({}, "")):
        outcome = run("import", database, "--json", data_dir=data_dir, **variables)
        assert (outcome.exit_code, outcome.stderr) == (0, expected)
        assert outcome.json["unchanged"] == 30
