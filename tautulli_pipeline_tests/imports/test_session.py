"""An open source, and the half of an import that publishes it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, nullcontext
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.errors import SourceError, StoppedError
from tautulli_pipeline.imports.plan import Destination, Finished, make_plan
from tautulli_pipeline.imports.receipts import ROWS, Receipt, ReceiptFolder
from tautulli_pipeline.imports.session import KnownContents, OpenSource, PublishingHalf, open_source
from tautulli_pipeline.source.partitions import MAX_PARTITIONS, Grid
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline_tests.cases import DEFAULT_STARTED_AT, make_database, play

CONTENTS = [PartitionContent(Grid(10).key_of(10 * n + 1), n + 1, f"digest-{n}") for n in range(5)]
KEYS = [content.key for content in CONTENTS]
DESTINATION = Destination("default", "warehouse-1", "stream-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    plays = [play(n, user_id=n % 3) for n in (1, 2, 3, 11, 12)] + [play(13, started=0)]
    make_database(folder / "tautulli.db", plays=plays, version="v2.17.2")
    return folder


@pytest.fixture
def source(folder, tmp_path):
    with open_source(folder / "tautulli.db", tmp_path / "snapshots") as source:
        yield source


def test_a_source_is_described_by_what_it_holds(source, folder):
    contents = source.survey(None, 10)
    facts = source.describe(contents)
    assert (facts.path, facts.tautulli_version) == (folder / "tautulli.db", "v2.17.2")
    assert facts.size_bytes == (folder / "tautulli.db").stat().st_size
    assert (facts.rows, facts.ids, facts.users, facts.partitions) == (6, (1, 13), 4, 2)
    first, last = (DEFAULT_STARTED_AT + 10_000 * n for n in (1, 12))
    assert facts.started == (first, last)  # a play that began at no time does not count
    assert facts.unreadable == ()


def test_a_source_without_plays_has_neither_ids_nor_starts(tmp_path):
    make_database(tmp_path / "tautulli.db")
    with open_source(tmp_path / "tautulli.db", tmp_path / "snapshots") as source:
        facts = source.describe(source.survey(None, 10))
    assert (facts.rows, facts.ids, facts.started, facts.users) == (0, None, None, 0)


def test_plays_are_counted_by_month_in_the_ranges_that_are_named(source):
    keys = [Grid(10).key_of(1), Grid(10).key_of(11)]
    assert source.plays_by_month(keys) == [("2023-11", "movie", 5)]
    assert source.plays_by_month(keys[1:]) == [("2023-11", "movie", 2)]
    assert source.plays_by_month([]) == []


@pytest.mark.parametrize(
    ("width", "batch_size", "fits"), [(10, 10, True), (10, 20, False), (20, 10, False)]
)
def test_a_batch_size_fits_the_grid_that_it_made(source, width, batch_size, fits):
    assert source.fits(Grid(width), batch_size) is fits


def test_a_grid_that_had_to_be_widened_fits_the_size_it_was_asked_for(tmp_path):
    history = [{"id": 3 * n, "started": 1} for n in range(1, MAX_PARTITIONS + 2)]
    make_database(tmp_path / "tautulli.db", history=history)
    with open_source(tmp_path / "tautulli.db", tmp_path / "snapshots") as source:
        contents = source.survey(None, 3)
        grid = Grid.of_key(contents[0].key)
        assert grid.width > 3
        assert source.fits(grid, 3)
        assert not source.fits(grid, 4)


def test_a_survey_is_told_with_its_grid_and_a_known_one_is_not_made_again(folder, tmp_path):
    told = []
    path = folder / "tautulli.db"
    with open_source(
        path, tmp_path / "snapshots", on_survey=lambda *survey: told.append(survey)
    ) as source:
        contents = source.survey(Grid(10), 999)
    assert told == [(Grid(10), contents)]

    def copy():
        raise SourceError("no copy is needed")

    known = OpenSource(copy, KnownContents(path, Grid(10), tuple(contents)))
    assert known.survey(Grid(10), 999) == contents
    assert (known.path, known.salvage.damages) == (path, ())
    with pytest.raises(SourceError, match="no copy"):
        known.survey(Grid(20), 999)


def test_what_is_no_database_shows_when_it_is_opened_and_leaves_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("long enough to have a header " * 9)
    with pytest.raises(SourceError), open_source(tmp_path / "notes.txt", tmp_path / "snapshots"):
        pytest.fail("it was opened")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_source_is_read_as_it_was_though_it_is_written_meanwhile(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    with open_source(path, tmp_path / "snapshots") as source:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM session_history")
        assert source.describe(source.survey(None, 10)).rows == 1


class Publishing:
    """Gives the receipts of partitions without a stream."""

    def publish(self, work):
        for part in work:
            rows = pa.Table.from_pylist([{"source_row_id": 1}], schema=ROWS)
            moment = datetime(2026, 1, 1)
            yield Receipt("import-1", part.key, "default", 1, moment, rows)


def half_of(folder, finished=(), own=(), *, fresh=False):
    """A half whose plan was made when these were finished by an earlier import or its own."""
    by = dict.fromkeys(finished, "before") | dict.fromkeys(own, "import-1")
    done = {c.key: Finished(by[c.key], DESTINATION.version(c)) for c in CONTENTS if c.key in by}
    plan = make_plan(CONTENTS, done, DESTINATION, "import-1", fresh=fresh)
    untouched = SimpleNamespace(naming_damage=nullcontext)
    return PublishingHalf(untouched, Publishing, plan, ReceiptFolder(folder), plan.work)


def test_each_partition_is_finished_once_its_receipt_is_stored(tmp_path):
    half = half_of(tmp_path / "receipts", KEYS[:2])
    told = []
    half.on_receipt = lambda receipt: told.append(receipt.partition_key)
    for receipt, finished in half.receipts():
        assert half.folder.read(receipt.partition_key) == receipt
        assert receipt.partition_key not in told  # whoever records it comes first
        content = CONTENTS[KEYS.index(receipt.partition_key)]
        assert finished == Finished("import-1", DESTINATION.version(content))
    assert told == KEYS[2:]


def test_a_half_that_is_asked_to_stop_finishes_the_partition_in_hand(tmp_path):
    half, recorded = half_of(tmp_path / "receipts"), []

    def record_all():
        for receipt, _ in half.receipts():
            recorded.append(receipt.partition_key)
            half.stopping.set()

    with pytest.raises(StoppedError) as caught:
        record_all()
    assert recorded == KEYS[:1]
    assert caught.value.hint == "import again to resume it"
    assert [path.name for path in Path(tmp_path / "receipts").iterdir()] == KEYS[:1]


known_keys = st.sets(st.sampled_from(KEYS))
some_keys = st.lists(st.sampled_from([*KEYS, "0000009991-0000010000"]), unique=True)


@settings(max_examples=60)
@given(finished=known_keys, own=known_keys, chosen=some_keys, fresh=st.booleans())
def test_what_is_chosen_is_published_and_every_play_covered_or_left_alone(
    finished, own, chosen, fresh
):
    half = half_of(Path("none"), finished, own, fresh=fresh)
    half.choose(chosen)
    here = sorted(set(chosen) & set(KEYS))
    assert [part.key for part in half.work] == here
    assert {*here, *own} <= half.covered  # what it finished before stays its own
    coverage = half.coverage()
    assert coverage["total_records"] + coverage["unchanged"] == sum(c.rows for c in CONTENTS)
    assert coverage["total_records"] >= sum(c.rows for c in CONTENTS if c.key in here)
