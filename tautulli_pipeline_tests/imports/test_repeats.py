"""What is remembered of several servers, and every change that makes it untrue."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from tautulli_pipeline.configuration import parse_configuration
from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.imports import repeats
from tautulli_pipeline.imports.fingerprints import SURVEY_VERSION, fingerprint
from tautulli_pipeline.imports.known_warehouse import KnownWarehouse
from tautulli_pipeline.imports.record import ImportRecord, Status, log_of
from tautulli_pipeline.imports.repeats import remembered, repeated, still_remembered
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source import tautulli_api
from tautulli_pipeline.source.address import Address, Tautulli, name_of
from tautulli_pipeline.source.tautulli_api import Newest

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = ("home", "cabin", "barn")
ROWS = 7


def configured(folder: Path, ids: tuple[str, ...] = IDS, *, more: str = "") -> Settings:
    """Return the settings with a configuration file that lists these servers."""
    text = "".join(f'[[servers]]\nid = "{one}"\nsource = "{one}.db"\n' for one in ids) + more
    data_dir = folder / "data"
    settings = Settings(pipeline_data_dir=data_dir)
    return settings.configured(parse_configuration(text, folder / "pipeline.toml"))


@dataclass
class House:
    """A data directory with files in place of the stream, the warehouse and Dagster's storage."""

    folder: Path
    settings: Settings

    def of(self, server: str) -> Settings:
        return self.settings.of_server(server)[0]

    def source(self, server: str) -> Path:
        return self.folder / f"{server}.db"

    def write_to(self, file: Path) -> None:
        """Change a file, and its times also within one tick of the clock."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as opened:
            opened.write(b"more")
        self.ticks = getattr(self, "ticks", 0) + 1
        stamp = time.time_ns() + self.ticks * 10**9
        os.utime(file, ns=(stamp, stamp))

    def use_stream(self) -> None:
        self.write_to(self.settings.data_dir / "nats" / "users.lock")

    def record_in_dagster(self) -> None:
        self.write_to(self.settings.layout.history_index)

    def import_from(
        self,
        server: str,
        *,
        meanwhile: Callable[[], object] = lambda: None,
        stream: str = "stream",
        warehouse: str = "warehouse",
        is_stored: bool = True,
        leaves_nothing: bool = True,
        drains: bool = True,
    ) -> None:
        """Do to the files what an import of this server does."""
        settings, path = self.of(server), self.source(server)
        log = log_of(settings)
        with log.exclusive(name_of(path)), remembered(settings, path, server) as completion:
            settings.layout.make_folder()
            survey = [SURVEY_VERSION, fingerprint(path), None, {}]
            settings.layout.survey.write_bytes(orjson.dumps(survey))
            self.use_stream()
            known = KnownWarehouse(settings)
            with known.left_complete():
                meanwhile()
                if is_stored:
                    known.opened(warehouse, IDS, {})
                    self.write_to(settings.warehouse_path)
                    self.record_in_dagster()
            record = ImportRecord.begin(name_of(path), server, fresh=False)
            record = replace(record, total_records=ROWS).ended(Status.COMPLETED)
            log.write(record)
            if drains:
                completion.stream_id = stream
            if leaves_nothing:
                completion.fill(record)

    def finds_nothing_new(self, server: str, settings: Settings | None = None) -> bool:
        settings = settings or self.of(server)
        record = repeated(
            settings,
            self.source(server),
            server,
            began_at=time.monotonic(),
            say=lambda _words: None,
        )
        assert record is None or record.unchanged == ROWS
        return record is not None

    @property
    def known(self) -> set[str]:
        """The servers of which nothing new is found."""
        return {server for server in IDS if self.finds_nothing_new(server)}


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, configured(tmp_path))
    house.settings.data_dir.mkdir()
    for server in IDS:
        house.source(server).write_bytes(b"a database")
    for server in IDS:
        house.import_from(server)
    return house


def test_each_server_is_remembered_although_the_imports_of_others_follow(house):
    assert house.known == {*IDS}
    house.import_from("cabin")
    assert house.known == {*IDS}


def test_a_changed_source_concerns_its_own_server_only(house):
    house.write_to(house.source("cabin"))
    assert house.known == {"home", "barn"}
    house.import_from("cabin")
    assert house.known == {*IDS}


def test_an_import_that_leaves_something_to_do_keeps_what_is_known_of_others(house):
    house.import_from("cabin", leaves_nothing=False)
    assert house.known == {"home", "barn"}


def test_an_import_that_finds_nothing_to_store_keeps_what_is_known_of_others(house):
    house.import_from("cabin", is_stored=False)
    assert house.known == {*IDS}


def test_a_source_that_cannot_be_read_keeps_what_is_known_of_others(house):
    with (
        pytest.raises(OSError, match="gone"),
        remembered(house.of("cabin"), house.source("cabin"), "cabin"),
    ):
        raise OSError("gone")
    assert house.known == {"home", "barn"}


def replace_warehouse(house):
    path = house.settings.warehouse_path
    path.rename(path.with_name("old"))
    path.write_bytes(b"another")


def leave_receipt(house):
    house.write_to(house.settings.layout.receipts / "an-import" / "other")


SHARED = {
    "the warehouse is written": lambda house: house.write_to(house.settings.warehouse_path),
    "the warehouse is replaced": replace_warehouse,
    "the warehouse is deleted": lambda house: house.settings.warehouse_path.unlink(),
    "Dagster's records change": House.record_in_dagster,
    "a receipt is left": leave_receipt,
}


@pytest.mark.parametrize("change", SHARED.values(), ids=SHARED)
def test_a_change_of_what_is_shared_concerns_all_servers(house, change):
    change(house)
    assert house.known == set()


@pytest.mark.parametrize("change", SHARED.values(), ids=SHARED)
def test_an_import_after_such_a_change_restores_nothing_of_others(house, change):
    change(house)
    house.import_from("cabin")
    assert house.known <= {"cabin"}


def test_receipts_that_an_import_leaves_to_a_server_that_is_away_concern_no_other(house):
    log = log_of(house.of("cabin"))
    log.write(log.read().ended(Status.FAILED))
    leave_receipt(house)
    assert house.known == set()
    for server in ("home", "barn"):
        house.import_from(server)
    assert house.known == {"home", "barn"}


def test_a_stream_that_was_used_is_asked_and_an_import_that_drained_it_has_asked(house):
    house.use_stream()
    assert house.known == set()
    house.import_from("cabin")
    assert house.known == {*IDS}


@pytest.mark.parametrize(
    "way",
    [
        {"stream": "another stream"},
        {"warehouse": "another warehouse"},
        {"meanwhile": lambda: None, "drains": False},
    ],
    ids=["another stream", "another warehouse in the same file", "events wait on the stream"],
)
def test_an_import_that_went_elsewhere_or_left_events_restores_nothing_of_others(house, way):
    house.import_from("cabin", **way)
    assert house.known <= {"cabin"}


@pytest.mark.parametrize("is_stored", [False, True])
def test_an_import_that_dies_leaves_no_wrong_answer(house, is_stored):
    def die():
        if is_stored:
            KnownWarehouse(house.of("cabin")).opened("warehouse", IDS, {})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.import_from("cabin", meanwhile=die)
    # It has used the stream.
    assert house.known == set()
    house.import_from("home")
    assert house.known == ({"home"} if is_stored else {"home", "barn"})


def test_a_tautulli_that_does_not_answer_is_asked_once_and_known_again_later(house, monkeypatch):
    asked, is_away = [], []

    def look(tautulli):
        asked.append(str(tautulli))
        if is_away:
            raise SourceError("it does not answer")
        return Newest(ROWS, ROWS)

    monkeypatch.setattr(tautulli_api, "look", look)
    tautulli = Tautulli(Address("http://nas"), "key")
    monkeypatch.setattr(House, "source", lambda _house, _server: tautulli)
    house.import_from("home")
    assert house.finds_nothing_new("home")
    is_away.append(True)
    for _night in range(2):
        asked.clear()
        with pytest.raises(SourceError, match="does not answer"):
            house.finds_nothing_new("home")
        assert asked == ["http://nas"]
        assert log_of(house.of("home")).read().refused == "it does not answer"
    is_away.clear()
    assert house.finds_nothing_new("home")
    assert log_of(house.of("home")).read().refused is None


def wipe(house, details="wiped at 3"):
    """Store that an asset was wiped, as Dagster does."""
    file = house.settings.layout.history_index
    file.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE asset_keys (asset_key TEXT, asset_details TEXT)")
        connection.execute('INSERT INTO asset_keys VALUES (\'["cabin", "x"]\', ?)', [details])
    house.write_to(file.with_name("index.db-journal"))


def test_an_asset_that_is_wiped_during_an_import_or_a_build_ends_all_knowledge(house):
    for server in IDS:
        house.import_from(server)
    house.import_from("home", meanwhile=lambda: wipe(house))
    assert house.known == set()
    for server in IDS:  # it was wiped before
        house.import_from(server)
    assert house.known == {*IDS}
    with still_remembered(house.settings):
        wipe(house, "wiped at 4")
    assert house.known == set()


def test_the_record_of_a_server_must_be_complete(house):
    log = log_of(house.of("cabin"))
    log.write(log.read().ended(Status.STOPPED))
    assert house.known == {"home", "barn"}
    log.remove()
    assert house.known == {"home", "barn"}


def test_building_the_statistics_keeps_what_is_known(house):
    with still_remembered(house.settings):
        house.record_in_dagster()
    assert house.known == {*IDS}


def test_building_the_statistics_restores_nothing_that_was_not_known(house):
    house.record_in_dagster()
    with still_remembered(house.settings):
        house.record_in_dagster()
    assert house.known == set()


def test_a_setting_concerns_each_server_that_it_is_of(house, monkeypatch):
    other = house.settings.model_copy(update={"import_batch_size": 10})
    assert not house.finds_nothing_new("home", other.of_server("home")[0])
    wider = configured(house.folder, (*IDS, "shed"))
    assert house.finds_nothing_new("home", wider.of_server("home")[0])
    renamed = configured(house.folder, IDS, more='replaces = ["old"]\n')
    assert not house.finds_nothing_new("home", renamed.of_server("home")[0])
    assert house.known == {*IDS}
    monkeypatch.setattr(repeats, "_VERSION", "9.9.9")
    assert house.known == set()


def test_a_server_that_is_removed_from_the_file_is_forgotten_at_the_next_import(house):
    house.settings = configured(house.folder, ("home", "cabin"))
    house.import_from("cabin")
    house.settings = configured(house.folder)
    assert house.known == {"home", "cabin"}


def test_the_servers_of_the_file_are_told_from_the_one_without_it(house):
    alone = Settings(pipeline_data_dir=house.settings.data_dir, import_server_id="home")
    assert not house.finds_nothing_new("home", alone)
