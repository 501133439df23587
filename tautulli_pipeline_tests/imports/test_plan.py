"""What an import covers, publishes and publishes again."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautulli_pipeline.imports.messages import PartitionWork
from tautulli_pipeline.imports.plan import Destination, Finished, make_plan
from tautulli_pipeline.source.partitions import OTHER, Grid
from tautulli_pipeline.source.survey import PartitionContent

HERE = Destination("default", "warehouse-1", "MEDIA_EVENTS@2026-01-01T00:00:00+00:00")
GRID = Grid(1000)
FIRST, SECOND, THIRD = (
    PartitionContent(GRID.partition_of(1), 900, "digest-1"),
    PartitionContent(GRID.partition_of(1001), 50, "digest-2"),
    PartitionContent(OTHER, 3, "digest-3"),
)
CONTENTS = (FIRST, SECOND, THIRD)


def finished_by(import_id, *contents, destination=HERE):
    return {c.key: Finished(import_id, destination.version(c)) for c in contents}


def plan_of(finished, *, destination=HERE, contents=CONTENTS, fresh=False, **options):
    return make_plan(contents, finished, destination, "now", fresh=fresh, **options)


def work(*contents, changed=()):
    return tuple(
        PartitionWork(content.partition, has_changed=content in changed) for content in contents
    )


def keys_of(*contents):
    return {content.key for content in contents}


def stale(content):
    return replace(content, digest="old")


def counts(plan):
    """Return the number of covered, unchanged and pending rows; check that they add up."""
    found = (plan.total_records, plan.unchanged, plan.pending)
    assert sum(found) == sum(content.rows for content in plan.contents.values())
    return found


def test_a_first_import_covers_everything():
    plan = plan_of({})
    assert plan.work == work(*CONTENTS)
    assert plan.contents == {c.key: c for c in CONTENTS}
    assert plan.versions == {c.key: HERE.version(c) for c in CONTENTS}
    assert (plan.covered, plan.current) == (keys_of(*CONTENTS), set())
    assert counts(plan) == (953, 0, 0)


def test_only_what_is_missing_or_stale_is_due():
    plan = plan_of(finished_by("before", FIRST, stale(SECOND)))
    assert plan.work == work(SECOND, THIRD, changed=[SECOND])
    assert plan.current == keys_of(FIRST)
    assert counts(plan) == (53, 900, 0)


def test_nothing_is_due_when_nothing_changed():
    plan = plan_of(finished_by("before", *CONTENTS))
    assert plan.work == ()
    assert plan.current == keys_of(*CONTENTS)
    assert counts(plan) == (0, 953, 0)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_resumed_import_covers_its_own_finished_partitions_without_publishing_them(fresh):
    plan = plan_of(finished_by("now", FIRST) | finished_by("before", SECOND), fresh=fresh)
    assert plan.work == (work(SECOND, THIRD) if fresh else work(THIRD))
    covered = 953 if fresh else 903
    assert counts(plan) == (covered, 953 - covered, 0)


def test_a_fresh_import_covers_everything_again():
    plan = plan_of(finished_by("before", *CONTENTS), fresh=True)
    assert plan.work == work(*CONTENTS)
    assert counts(plan) == (953, 0, 0)


def test_an_own_finished_partition_that_changed_is_due_again_and_counted_once():
    plan = plan_of(finished_by("now", stale(FIRST), SECOND, THIRD))
    assert plan.work == work(FIRST, changed=[FIRST])
    assert counts(plan) == (953, 0, 0)


@pytest.mark.parametrize("part", ["server_id", "warehouse_id", "stream_id"])
def test_a_partition_finished_for_one_destination_is_due_for_another(part):
    plan = plan_of(finished_by("before", *CONTENTS), destination=replace(HERE, **{part: "another"}))
    assert plan.work == work(*CONTENTS, changed=CONTENTS)
    assert counts(plan) == (953, 0, 0)


def test_versions_differ_if_any_part_of_the_destination_differs():
    moved = (Destination("a", "bc", "d"), Destination("ab", "c", "d"), Destination("a", "b", "cd"))
    assert len({destination.version(FIRST) for destination in moved}) == 3
    assert HERE.version(FIRST) == HERE.version(replace(FIRST, partition=OTHER))


def test_what_an_older_file_has_changed_is_due_again_when_the_file_is_the_newest():
    finished = finished_by("before", FIRST, stale(SECOND), stale(THIRD))
    older = plan_of(finished, is_older=True)
    assert older.work == work(SECOND, THIRD, changed=[SECOND, THIRD])
    finished |= {c.key: Finished("older", older.versions[c.key]) for c in (SECOND, THIRD)}
    assert plan_of(finished, is_older=True).work == ()
    assert plan_of(finished).work == work(SECOND, THIRD, changed=[SECOND, THIRD])
    moved = finished[SECOND.key].moved_to("elsewhere")
    assert (moved.place, moved.content) == ("elsewhere", SECOND.digest)
    assert moved.version != Finished("older", f"elsewhere:{SECOND.digest}").version


def test_partitions_gone_from_the_source_are_not_covered():
    plan = plan_of(finished_by("before", *CONTENTS), contents=CONTENTS[:1])
    assert plan.contents == {FIRST.key: FIRST}
    assert (plan.covered, plan.current) == (set(), keys_of(FIRST))
    assert counts(plan) == (0, 900, 0)


def test_a_finished_partition_round_trips_through_its_text():
    finished = Finished("20260101T000000-abcd", "0123:4567")
    assert Finished.parse(str(finished)) == finished


@pytest.mark.parametrize("fresh", [False, True])
def test_exactly_the_chosen_partitions_are_published_finished_or_not(fresh):
    finished = finished_by("before", FIRST, stale(SECOND))
    chosen = [THIRD.key, FIRST.key]
    plan = plan_of(finished, chosen=chosen, fresh=fresh)
    assert plan.work == work(FIRST, THIRD)
    assert plan.covered == keys_of(FIRST, THIRD)
    assert counts(plan) == (903, 0, 50)


def test_a_choice_leaves_finished_partitions_unchanged_and_the_others_pending():
    finished = finished_by("before", FIRST, stale(SECOND))
    assert counts(plan_of(finished, chosen=[THIRD.key])) == (3, 900, 50)
    assert counts(plan_of(finished, chosen=[])) == (0, 900, 53)
    assert counts(plan_of({}, chosen=[SECOND.key])) == (50, 0, 903)


def test_a_resumed_import_covers_its_own_finished_partitions_besides_the_chosen_ones():
    plan = plan_of(finished_by("now", FIRST, stale(THIRD)), chosen=[SECOND.key])
    assert plan.work == work(SECOND)
    assert plan.covered == keys_of(FIRST, SECOND)
    assert counts(plan) == (950, 0, 3)


def test_a_chosen_partition_that_the_source_does_not_have_is_ignored():
    plan = plan_of({}, chosen=[FIRST.key, GRID.partition_of(5001).key])
    assert plan.work == work(FIRST)
    assert plan.versions.keys() == keys_of(*CONTENTS)


MANY = [PartitionContent(Grid(10).partition_of(10 * n + 1), n + 1, f"now-{n}") for n in range(5)]
some = st.sets(st.sampled_from(MANY), max_size=5).map(lambda found: keys_of(*found))
other_keys = st.sets(st.sampled_from(["other", "0000009991-0000010000"]))


@given(
    finished=some,
    own=some,
    changed=some,
    chosen=st.none() | st.builds(set.union, some, other_keys),
    fresh=st.booleans(),
)
def test_every_row_is_covered_or_unchanged_or_pending(finished, own, changed, chosen, fresh):
    by = dict.fromkeys(finished, "before") | dict.fromkeys(own, "now")
    known = {
        content.key: Finished(
            by[content.key], HERE.version(stale(content) if content.key in changed else content)
        )
        for content in MANY
        if content.key in by
    }
    plan = plan_of(known, contents=MANY, chosen=chosen, fresh=fresh)
    everything = keys_of(*MANY)
    current = by.keys() - changed
    if chosen is not None:
        due = chosen & everything
    elif fresh:
        due = everything - (current & own)
    else:
        due = everything - current
    covered = due | (current & own)  # it still covers what it finished before
    assert plan.work == work(
        *(content for content in MANY if content.key in due),
        changed=[content for content in MANY if content.key in by.keys() & changed],
    )
    assert (plan.covered, plan.current) == (covered, current)
    rows = {content.key: content.rows for content in MANY}
    assert counts(plan) == tuple(
        sum(rows[key] for key in keys)
        for keys in (covered, current - covered, everything - covered - current)
    )
    if chosen is None:
        assert plan.pending == 0


def test_only_lost_rows_are_published_again_and_as_new_messages():
    plan = plan_of({})
    before = time.time_ns() // 1_000_000
    first, second = plan.again({THIRD.key: [-7], FIRST.key: [3, 1, 2]})
    assert (first.partition, first.only) == (FIRST.partition, {1, 2, 3})
    assert (second.partition, second.only) == (OTHER, {-7})
    assert before <= first.attempt == second.attempt
    assert first.attempt > work(FIRST)[0].attempt
    time.sleep(0.002)
    (later,) = plan.again({FIRST.key: [3, 1, 2]})
    assert later.attempt > first.attempt


def test_lost_rows_of_partitions_that_the_source_no_longer_has_are_skipped():
    plan = plan_of({}, contents=CONTENTS[:1])
    assert plan.again({"0000005001-0000006000": [5002], THIRD.key: [-7]}) == ()
    assert [part.key for part in plan.again({FIRST.key: [1], THIRD.key: [-7]})] == [FIRST.key]


def test_lost_rows_of_partitions_that_are_not_due_are_published_again_too():
    plan = plan_of(finished_by("now", FIRST))
    assert [part.key for part in plan.again({FIRST.key: [1]})] == [FIRST.key]


def test_nothing_is_published_again_if_nothing_is_lost():
    assert plan_of({}).again({}) == ()


def test_a_partition_that_was_begun_again_is_due_although_its_content_is_the_finished_one():
    finished = finished_by("before", *CONTENTS)
    plan = plan_of(finished, begun={SECOND.key})
    assert plan.work == work(SECOND, changed=[SECOND])
    assert counts(plan) == (SECOND.rows, FIRST.rows + THIRD.rows, 0)
