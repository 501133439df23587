"""The file of a known server is refused under a new id; another or a rebuilt server is not."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.events.columns import HISTORY, METADATA
from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.imports.consumer_protocol import Ready
from tautulli_pipeline.imports.new_server import require_new_plays, sample_event_ids
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.warehouse.server_list import holders_of, known_servers
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.events.mapped import mapped_rows
from tautulli_pipeline_tests.imports.direct import DirectImports
from tautulli_pipeline_tests.warehouse.plays import memory_warehouse

PLAYS = 1600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def path(folder):
    make_database(folder / "tautulli.db", plays=[play(n) for n in range(1, PLAYS + 1)])
    return folder / "tautulli.db"


@pytest.fixture(scope="module")
def warehouse(folder, path):
    """A warehouse with the plays of the server `home`."""
    with memory_warehouse() as warehouse:
        DirectImports(warehouse, folder).run(path, "home")
        yield warehouse


@pytest.fixture
def require(folder, warehouse):
    """Compare a file with the warehouse as an import does."""

    def require(path, server_id, servers=ONLY_CURRENT_IDS, listed=()):
        with open_source(path, folder / "snapshots") as source:
            sample = sample_event_ids(source, server_id)
        holders = holders_of(warehouse, sample, servers)
        ready = Ready("warehouse-1", known_servers(warehouse), len(sample), holders)
        require_new_plays(ready, server_id, servers, listed)
        return len(sample)

    return require


@contextmanager
def refused():
    with pytest.raises(ConfigurationError) as caught:
        yield caught
    assert caught.value.exit_code == 2


def test_the_same_file_under_a_new_id_is_refused_with_what_makes_it_right(require, path):
    with refused() as caught:
        require(path, "attic")
    assert caught.value.message == (
        "cannot import as the server 'attic': 1,024 of 1,024 plays that were compared are stored "
        "as plays of 'home'"
    )
    assert "IMPORT_SERVER_ID=home" in caught.value.hint
    assert "IMPORT_SERVER_REPLACES=home" in caught.value.hint
    assert 'replaces = ["home"]' in caught.value.hint


def test_the_configuration_file_is_where_a_listed_server_is_made_right(require, path):
    with refused() as renamed:
        require(path, "attic", listed=["attic", "cabin"])
    assert renamed.value.hint == (
        "if this server had the id 'home', add replaces = [\"home\"] to attic in pipeline.toml; "
        "otherwise check its source"
    )
    # An id that a server has now cannot be replaced.
    with refused() as twice:
        require(path, "attic", listed=["attic", "home"])
    assert twice.value.hint == (
        "check the sources of home and attic: both have the history of home"
    )


def test_it_is_accepted_under_its_own_id_and_where_the_new_id_replaces_it(require, path):
    assert require(path, "home") > 0
    assert require(path, "attic", Servers({"home": "attic"})) > 0


def test_a_file_that_has_grown_and_lost_old_plays_is_recognized(require, folder):
    grown = folder / "grown.db"
    make_database(grown, plays=[play(n) for n in range(501, 2300)])
    with refused():
        require(grown, "attic")


@pytest.mark.parametrize(
    "plays",
    [
        pytest.param([play(n, title="Other", user_id=7) for n in range(1, 50)], id="another"),
        pytest.param(
            [play(n + 40, started=1_700_000_000 + 10_000 * n) for n in range(1, 50)], id="rebuilt"
        ),
        pytest.param([], id="empty"),
    ],
)
def test_another_or_a_rebuilt_server_is_accepted(require, folder, plays):
    other = folder / "other.db"
    other.unlink(missing_ok=True)
    make_database(other, plays=plays)
    require(other, "cabin")


def test_the_sample_is_small_and_from_all_parts_of_the_file(folder, path):
    with open_source(path, folder / "snapshots") as source:
        sample = sample_event_ids(source, "home")
    assert len(sample) == 1024


def test_the_sample_has_the_ids_of_valid_plays_and_needs_no_long_texts(folder):
    other = folder / "titles.db"
    make_database(other, plays=[play(n, title="" if n == 2 else "T") for n in range(1, 4)])
    valid = [row["event_id"] for row in mapped_rows(other) if row["reason"] is None]
    with open_source(other, folder / "snapshots") as source:
        assert sample_event_ids(source, "home") == sorted(valid)
        narrow = source.schema.only({"id", "title"})
    columns = narrow.history_columns
    assert (columns[HISTORY], columns[METADATA]) == (("id",), ("id", "title"))
