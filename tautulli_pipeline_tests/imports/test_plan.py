from dataclasses import replace

import pytest

from tautulli_pipeline.imports.pieces import PartitionWork
from tautulli_pipeline.imports.plan import Destination, Finished, make_plan
from tautulli_pipeline.source.survey import PartitionContent

HERE = Destination("default", "warehouse-1", "MEDIA_EVENTS@2026-01-01T00:00:00+00:00")
FIRST, SECOND, THIRD = (
    PartitionContent("0000000001-0000001000", 900, "digest-1"),
    PartitionContent("0000001001-0000002000", 50, "digest-2"),
    PartitionContent("other", 3, "digest-3"),
)
CONTENTS = (FIRST, SECOND, THIRD)


def finished_by(import_id, *contents, destination=HERE):
    return {c.key: Finished(import_id, destination.version(c)) for c in contents}


def plan_of(finished, *, import_id="now", destination=HERE, contents=CONTENTS, fresh=False):
    return make_plan(contents, finished, destination, import_id, fresh=fresh)


def work(*contents):
    return tuple(PartitionWork(content.key, content.rows) for content in contents)


def test_a_first_import_covers_everything():
    plan = plan_of({})
    assert plan.work == work(*CONTENTS)
    assert plan.rows == {c.key: c.rows for c in CONTENTS}
    assert plan.versions == {c.key: HERE.version(c) for c in CONTENTS}
    assert (plan.total_records, plan.unchanged) == (953, 0)


def test_only_what_is_missing_or_stale_is_due():
    stale = replace(SECOND, digest="as it was")
    plan = plan_of(finished_by("before", FIRST, stale))
    assert plan.work == work(SECOND, THIRD)
    assert (plan.total_records, plan.unchanged) == (53, 900)


def test_nothing_is_due_when_nothing_changed():
    plan = plan_of(finished_by("before", *CONTENTS))
    assert plan.work == ()
    assert (plan.total_records, plan.unchanged) == (0, 953)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_resumed_import_covers_its_own_finished_partitions_without_publishing_them(fresh):
    plan = plan_of(finished_by("now", FIRST) | finished_by("before", SECOND), fresh=fresh)
    assert plan.work == (work(SECOND, THIRD) if fresh else work(THIRD))
    covered = 953 if fresh else 903
    assert (plan.total_records, plan.unchanged) == (covered, 953 - covered)


def test_a_fresh_import_covers_everything_again():
    plan = plan_of(finished_by("before", *CONTENTS), fresh=True)
    assert plan.work == work(*CONTENTS)
    assert (plan.total_records, plan.unchanged) == (953, 0)


def test_its_own_partition_that_changed_since_is_due_again_and_counted_once():
    stale = replace(FIRST, digest="as it was")
    plan = plan_of(finished_by("now", stale, SECOND, THIRD))
    assert plan.work == work(FIRST)
    assert (plan.total_records, plan.unchanged) == (953, 0)


@pytest.mark.parametrize("part", ["server_id", "warehouse_id", "stream_id"])
def test_what_is_finished_for_one_destination_is_due_for_another(part):
    plan = plan_of(finished_by("before", *CONTENTS), destination=replace(HERE, **{part: "another"}))
    assert plan.work == work(*CONTENTS)
    assert (plan.total_records, plan.unchanged) == (953, 0)


def test_versions_differ_whichever_part_the_difference_is_in():
    moved = (Destination("a", "bc", "d"), Destination("ab", "c", "d"), Destination("a", "b", "cd"))
    assert len({destination.version(FIRST) for destination in moved}) == 3
    assert HERE.version(FIRST) == HERE.version(replace(FIRST, key="other"))


def test_partitions_gone_from_the_source_are_not_covered():
    plan = plan_of(finished_by("before", *CONTENTS), contents=CONTENTS[:1])
    assert plan.rows == {FIRST.key: 900}
    assert (plan.total_records, plan.unchanged) == (0, 900)


def test_what_is_remembered_of_a_partition_reads_back():
    finished = Finished("20260101T000000-abcd", "0123:4567")
    assert Finished.parse(str(finished)) == finished
