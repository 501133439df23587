"""Which server a database or an address belongs to."""

from __future__ import annotations

import pytest

from tautulli_pipeline.configuration import parse_configuration
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.sources import servers_of
from tautulli_pipeline.settings import Settings

FILE = """
[[servers]]
id = "home"
source = "../home.db"

[[servers]]
id = "cabin"
source = "http://nas:8181/tautulli"
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "data").mkdir()
    configuration = parse_configuration(FILE, tmp_path / "data" / "pipeline.toml")
    return Settings(pipeline_data_dir=tmp_path / "data").configured(configuration)


def test_a_source_is_recognized_however_it_is_spelled(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "home.db")
    for given in (tmp_path / "home.db", "../home.db", tmp_path / "link"):
        assert [one.server for one in servers_of(settings, None, given)] == ["home"]
    for given in ("http://nas:8181/tautulli", "http://nas:8181/tautulli/"):
        assert [one.server for one in servers_of(settings, None, given)] == ["cabin"]


@pytest.mark.parametrize("given", ["other.db", "http://nas:8181"])
def test_another_source_needs_the_name_of_its_server(settings, given):
    with pytest.raises(ConfigurationError) as caught:
        servers_of(settings, None, given)
    assert caught.value.message == f"it is not clear which server {given} belongs to"
    assert caught.value.hint == "name one of home, cabin as the server"
    assert [one.server for one in servers_of(settings, "cabin", given)] == ["cabin"]
