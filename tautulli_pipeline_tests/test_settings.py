"""Reading settings; cli.test_settings covers what the command line reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.settings import Settings, load_settings

VARIABLES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_settings_have_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.data_dir == tmp_path / "data"
    assert settings.warehouse_path == tmp_path / "data" / "playback.duckdb"
    assert (settings.import_enabled, settings.import_db_path) == (False, None)
    assert (settings.import_batch_size, settings.import_server_id) == (1000, "default")
    assert settings.nats_url is None


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_counts_as_unset(name, monkeypatch):
    expected = load_settings()
    monkeypatch.setenv(name, "")
    assert load_settings() == expected


def test_variable_names_are_case_insensitive_and_unknown_ones_are_ignored(monkeypatch):
    monkeypatch.setenv("import_batch_size", "77")
    monkeypatch.setenv("IMPORT_BATCH_SIZES", "none")
    assert load_settings().import_batch_size == 77


def test_paths_are_expanded_and_made_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMPORT_DB_PATH", "~/tautulli.db")
    monkeypatch.setenv("PIPELINE_DATA_DIR", "~/data")
    monkeypatch.setenv("DUCKDB_PATH", "plays.duckdb")
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.import_db_path == tmp_path / "home" / "tautulli.db"
    assert settings.data_dir == tmp_path / "home" / "data"
    assert settings.warehouse_path == tmp_path / "plays.duckdb"


def test_settings_are_immutable(monkeypatch):
    settings = load_settings()
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "5")
    assert settings.import_batch_size == 1000
    with pytest.raises(ValueError, match="frozen"):
        settings.import_batch_size = 5


def test_a_secret_is_never_shown(monkeypatch):
    monkeypatch.setenv("NATS_PASSWORD", "hunter2")
    monkeypatch.setenv("NATS_TOKEN", "s3cret")
    settings = load_settings()
    assert settings.nats_password.get_secret_value() == "hunter2"
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in shown
        assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("IMPORT_BATCH_SIZE", 1, 100_000),
        ("NATS_DUPLICATE_WINDOW_SECONDS", 0.1, 86_400),
        ("DEDUP_WINDOW_SECONDS", 0, 86_400),
        ("DEDUP_MAX_ENTRIES", 0, 10_000_000),
    ],
)
def test_numbers_are_accepted_within_the_stated_range_only(monkeypatch, name, lowest, highest):
    for value in (lowest, highest):
        monkeypatch.setenv(name, str(value))
        assert getattr(load_settings(), name.lower()) == value
    for value in (lowest - 1, highest + 1, "nan", "1e999", "-1", "one"):
        monkeypatch.setenv(name, str(value))
        with pytest.raises(ConfigurationError, match=f"from {lowest} to {highest}$") as caught:
            load_settings()
        assert caught.value.message.startswith(f"{name}={str(value)!r} is not usable")


# Valid characters of an environment variable, without separators that Python treats as whitespace.
letters = st.characters(codec="utf-8", exclude_characters="\0\x1c\x1d\x1e\x1f")
names = st.text(letters | st.sampled_from(" \t\n.*>/\\"), min_size=1, max_size=6)


@examples(max_examples=60)
@given(names)
def test_stream_names_follow_the_rules_of_the_server(name):
    odd = any(one.isspace() or one in ".*>/\\" for one in name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NATS_STREAM", name)
        if odd:
            with pytest.raises(ConfigurationError, match="a name without whitespace"):
                load_settings()
        else:
            assert load_settings().nats_stream == name


def test_explicitly_set_variables_are_known(monkeypatch):
    assert "import_batch_size" not in load_settings().model_fields_set
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "1000")
    assert "import_batch_size" in load_settings().model_fields_set
    assert Path("data") == load_settings().pipeline_data_dir
