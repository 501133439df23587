"""Stream limits: capacity, and dropping messages before they are consumed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.api import DiscardPolicy, StreamConfig

from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, Limits, message_limit

UNLIMITED = st.sampled_from([None, -1, 0])
SIZES = st.integers(1, 10**9)
ROOMY = Limits(max_messages=20_000, max_bytes=64 * 2**20, max_unacked=20_000)


def limits(max_ack_pending=None, **config):
    return Limits.of(StreamConfig(**config), {"max_ack_pending": max_ack_pending})


@given(UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED, st.sampled_from(DiscardPolicy))
def test_a_limit_of_none_or_below_one_is_unlimited(in_all, by_subject, size, unacked, discard):
    found = limits(
        unacked, max_msgs=in_all, max_msgs_per_subject=by_subject, max_bytes=size, discard=discard
    )
    assert found == Limits()
    assert not found.narrow


@given(SIZES, SIZES, SIZES, SIZES)
def test_the_smallest_limit_applies(in_all, by_subject, size, unacked):
    found = limits(unacked, max_msgs=in_all, max_msgs_per_subject=by_subject, max_bytes=size)
    assert found.max_messages == min(in_all, by_subject)
    assert (found.max_bytes, found.max_unacked) == (size, unacked)
    drops = f"max_msgs {in_all}, max_bytes {size}, max_msgs_per_subject {by_subject}"
    assert (found.drops, found.drops_oldest) == (drops, True)


@given(SIZES, SIZES)
def test_a_stream_that_rejects_new_messages_drops_no_old_ones(in_all, size):
    found = limits(max_msgs=in_all, max_bytes=size, discard=DiscardPolicy.NEW)
    assert (found.drops, found.drops_oldest) == ("", False)
    assert (found.max_messages, found.max_bytes) == (in_all, size)


@given(SIZES, SIZES, st.booleans())
def test_a_subject_limit_drops_the_oldest_unless_it_rejects_new_messages(
    in_all, by_subject, refused
):
    found = limits(
        max_msgs=in_all,
        max_msgs_per_subject=by_subject,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=refused,
    )
    drops = "" if refused else f"max_msgs_per_subject {by_subject}"
    assert (found.drops, found.drops_oldest) == (drops, not refused)
    assert found.max_messages == min(in_all, by_subject)


@pytest.mark.parametrize(
    ("seconds", "drops"),
    [(0, ""), (0.5, "max_age 0.5 s"), (3600, "max_age 3600 s"), (86_399, "max_age 86399 s")],
)
def test_a_short_max_age_drops_messages_by_age_only(seconds, drops):
    for discard in DiscardPolicy:
        found = limits(max_age=seconds, discard=discard)
        assert (found.drops, found.drops_oldest) == (drops, False)


def test_a_max_age_of_one_day_drops_nothing():
    assert limits(max_age=86_400).drops == ""


@pytest.mark.parametrize(
    ("changes", "narrow"),
    [
        ({}, False),
        ({"max_messages": 19_999}, True),
        ({"max_unacked": 19_999}, True),
        ({"max_bytes": 64 * 2**20 - 1}, True),
    ],
)
def test_a_stream_with_little_room_is_narrow(changes, narrow):
    values = {
        "max_messages": ROOMY.max_messages,
        "max_bytes": ROOMY.max_bytes,
        "max_unacked": ROOMY.max_unacked,
    }
    assert Limits(**(values | changes)).narrow is narrow


def test_every_limit_that_can_drop_messages_is_listed():
    assert limits(max_msgs=10, max_age=60).drops == "max_msgs 10, max_age 60 s"


def test_the_smallest_message_limit_applies_and_is_named():
    stream = StreamConfig(name="S", max_msg_size=2000, max_bytes=10_000)
    assert message_limit(2**20, stream) == (2000, "max_msg_size 2000 of stream S")
    assert message_limit(1500, stream) == (1500, "max_payload 1500 of the stream server")
    narrow = StreamConfig(name="S", max_bytes=1000)
    assert message_limit(2**20, narrow) == (872, "max_bytes 1000 of stream S")
    assert message_limit(2**26, None) == DEFAULT_MESSAGE_LIMIT
    unlimited = StreamConfig(name="S", max_msg_size=-1, max_bytes=-1)
    assert message_limit(2**26, unlimited) == DEFAULT_MESSAGE_LIMIT
