"""The concurrent stages of a publication."""

from __future__ import annotations

import threading

import pytest

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.imports.publication import _prefetched
from tautulli_pipeline_tests.command import wait_until


def making(count, made, *, fails_at=None):
    """Yield numbers and record each one in `made`."""
    for number in range(count):
        if number == fails_at:
            raise SourceDamagedError("page 7 cannot be read")
        made.append(number)
        yield number


def thread_has_ended():
    return not any(thread.name.startswith("read-and-map") for thread in threading.enumerate())


@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_items_come_in_order(count):
    made = []
    with _prefetched(making(count, made)) as items:
        assert list(items) == made == list(range(count))
    assert thread_has_ended()


def test_only_the_next_two_items_are_prefetched():
    made = []
    with _prefetched(making(10, made)) as items:
        assert next(items) == 0
        # Item 0 was taken; two more are ready.
        wait_until(lambda: len(made) == 3)
        assert not threading.Event().wait(0.05)
        assert made == [0, 1, 2]
        assert next(items) == 1
        wait_until(lambda: len(made) == 4)


def test_an_error_is_raised_after_the_items_before_it():
    taken = []
    with _prefetched(making(10, [], fails_at=3)) as items:
        with pytest.raises(SourceDamagedError, match="page 7"):
            taken.extend(item for item in items)
        assert taken == [0, 1, 2]
    assert thread_has_ended()


def test_prefetching_ends_when_the_context_is_left():
    made = []
    with pytest.raises(KeyboardInterrupt), _prefetched(making(10**6, made)):
        raise KeyboardInterrupt
    assert thread_has_ended()
    assert len(made) < 5
