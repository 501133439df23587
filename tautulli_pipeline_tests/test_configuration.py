"""Reading `pipeline.toml`: what is allowed, and how each fault is reported."""

from __future__ import annotations

import time

import pytest

from tautulli_pipeline.configuration import Configuration, parse_configuration
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline.orchestration.analytics import request_for
from tautulli_pipeline.orchestration.names import Names, names_of_servers
from tautulli_pipeline.serving import configuration_watch
from tautulli_pipeline.serving.configuration_watch import ConfigurationWatch
from tautulli_pipeline.settings import load_settings, load_standing_settings

GOOD = """
timezone = "Europe/Berlin"

[[servers]]
id = "home"
source = "tautulli.db"

[[servers]]
id = "cabin"
source = "http://192.168.1.20:8181"
api_key_file = "/run/secrets/cabin-key"
tls_ca = "ca.pem"
replaces = ["old-cabin"]

[[people]]
name = "Anna"
users = [{ server = "home", id = 1234 }, { server = "old-cabin", id = 99 }]
"""


def server(**keys):
    values = {"id": '"a"', "source": '"a.db"', **keys}
    return "[[servers]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The path of the configuration file of an empty data directory."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path))
    for name in ("PIPELINE_CONFIG", "PIPELINE_TIMEZONE", "IMPORT_DB_PATH", "TAUTULLI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "pipeline.toml"


def test_every_server_has_settings_of_its_own(file, tmp_path, monkeypatch):
    monkeypatch.setenv("TAUTULLI_API_KEY", "of another Tautulli")
    file.write_text(GOOD)
    settings = load_settings()
    home, cabin = settings.each_server
    assert (home.import_server_id, home.import_db_path) == ("home", tmp_path / "tautulli.db")
    assert cabin.import_db_path == "http://192.168.1.20:8181"
    assert (str(cabin.tautulli_api_key_file), cabin.tautulli_api_key) == (
        *("/run/secrets/cabin-key", None),
    )
    assert cabin.tautulli_tls_ca == tmp_path / "ca.pem"
    assert settings.servers == cabin.servers == Servers({"old-cabin": "cabin"})
    assert (settings.timezone, home.timezone) == ("Europe/Berlin", "Europe/Berlin")
    assert home.layout.import_record == tmp_path / "servers" / "home" / "import.json"
    assert settings.of_server("cabin") == (cabin,)
    assert names_of_servers() == [Names("home"), Names("cabin")]


def test_people_reach_the_analytics_under_the_current_ids(file):
    file.write_text(GOOD)
    people = request_for(load_settings()).people
    assert [(one.server_id, one.user_id, one.person) for one in people] == [
        ("home", 1234, "Anna"),
        ("cabin", 99, "Anna"),
    ]


def test_without_a_file_there_is_one_server_without_a_name(file, monkeypatch):
    monkeypatch.setenv("IMPORT_SERVER_ID", "mine")
    settings = load_settings()
    assert settings.each_server == (settings,)
    assert (settings.server, settings.of_server("mine")) == ("", (settings,))
    assert names_of_servers() == [Names()]
    monkeypatch.setenv("PIPELINE_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match="cannot read the configuration file"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("servers = ", "it is not valid TOML: "),
        (server(id='"my plex"'), "servers[0].id = 'my plex' is not allowed: it must be 1 to 32"),
        (server(id='"Home"'), "servers[0].id = 'Home' is not allowed"),
        (server(id="7"), "servers[0].id = 7 is not allowed"),
        (server(source='""'), "servers[0].source = '' is not allowed"),
        (server(port="1"), "there is no key servers[0].port; the keys are id, source, "),
        ('[[servers]]\nid = "a"', "servers[0].source is missing: it must be the path of a"),
        (server() + server(source='"b.db"'), "servers[1].id = 'a' is the id of two servers"),
        (server() + server(id='"b"'), "servers[0].source = "),
        (
            server() + server(id='"b"', source='"b.db"', replaces='["a"]'),
            "servers[1].replaces = 'a' is the id of a server",
        ),
        (
            server(replaces='["x"]') + server(id='"b"', source='"b.db"', replaces='["x"]'),
            "servers[1].replaces = 'x' is replaced by 'a' already",
        ),
        ('timezone = "Mars/Base"', "timezone = 'Mars/Base' is not allowed: it must be the name"),
        ('[[people]]\nname = "A"\nusers = []', "people[0].users = [] is not allowed"),
        (
            '[[people]]\nname = "A"\nusers = [{ server = "a", id = "x" }]',
            "people[0].users[0].id = 'x' is not allowed",
        ),
        (
            '[[people]]\nname = "A"\nusers = [{ server = "a", id = 5 }, { server = "a", id = 5 }]',
            "people[0].users = { server = 'a', id = 5 } is listed twice",
        ),
        ("zone = 1", "there is no key zone; the keys are timezone, servers, people"),
    ],
)
def test_a_fault_names_file_key_value_and_what_is_allowed(tmp_path, text, problem):
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text, tmp_path / "pipeline.toml")
    message = caught.value.message
    assert message.startswith(f"{tmp_path}/pipeline.toml is not usable: {problem}")
    assert "\n" not in message


def test_an_empty_file_changes_nothing(tmp_path):
    assert parse_configuration("", tmp_path / "pipeline.toml") == Configuration()


def test_a_running_process_keeps_the_last_good_file(file, tmp_path):
    said = []
    file.write_text("servers = 1")
    with pytest.raises(ConfigurationError, match="is not usable"):
        load_standing_settings()
    assert names_of_servers() == [Names()]  # the code location loads all the same

    file.write_text(GOOD)
    good = load_standing_settings(said.append)
    file.write_text(GOOD.replace('"home"', '"my home"'))
    assert load_standing_settings(said.append) == good
    assert names_of_servers() == [Names("home"), Names("cabin")]
    (words,) = said
    assert "servers[0].id = 'my home'" in words
    assert words.endswith("the last good one stays in force")
    with pytest.raises(ConfigurationError):
        load_settings()

    file.write_text(GOOD.replace('"home"', '"house"'))
    assert names_of_servers() == [Names("house"), Names("cabin")]
    file.unlink()
    assert names_of_servers() == [Names()]


def test_up_waits_until_a_file_is_written_whole(file):
    watch = ConfigurationWatch(load_standing_settings(), [].append)
    file.write_text("")
    assert not watch.has_new_servers()
    file.write_text(GOOD)
    assert not watch.has_new_servers()
    assert not watch.settings.has_servers
    time.sleep(1.1)
    assert watch.has_new_servers()


def test_up_notices_a_changed_file_once_and_keeps_the_last_good_one(file, monkeypatch):
    monkeypatch.setattr(configuration_watch, "_SETTLES_AFTER_SECONDS", 0)
    said = []
    watch = ConfigurationWatch(load_standing_settings(), said.append)
    assert not watch.has_new_servers()
    file.write_text(GOOD)
    assert [watch.has_new_servers(), watch.has_new_servers()] == [True, False]
    file.write_text(GOOD.replace("Europe/Berlin", "Europe/Paris"))
    assert not watch.has_new_servers()  # the definitions stay the same
    assert watch.settings.timezone == "Europe/Paris"
    file.write_text("servers = 1")
    assert [watch.has_new_servers(), watch.has_new_servers()] == [False, False]
    assert watch.settings.timezone == "Europe/Paris"
    file.unlink()
    assert watch.has_new_servers()
    changed = f"{file} has changed; "
    assert said[:2] == [f"{changed}the servers are home, cabin"] * 2
    assert said[2].endswith("the last good one stays in force")
    assert said[3:] == [f"{changed}it lists no servers"]
