import asyncio
from dataclasses import replace

import orjson
import pytest
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig, SubjectTransform

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.adoption import check_stream, covers
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.consumer import open_consumer
from tautulli_pipeline.stream.publisher import Outgoing, open_publisher
from tautulli_pipeline.stream.takeover import redeliver_unacked, require_sole_consumer
from tautulli_pipeline_tests.external_server import external_server
from tautulli_pipeline_tests.stream.servers import prepared

DURABLE = "tautulli-pipeline"


def event(number):
    headers = {"Nats-Msg-Id": f"event-{number}"}
    return Outgoing("playback.tautulli-import.movie", b"%d" % number, headers)


async def ask(stream, api, **body):
    message = await stream.client.request(f"$JS.API.{api}", orjson.dumps(body), timeout=5)
    answer = orjson.loads(message.data)
    assert "error" not in answer, answer
    return answer


async def make(stream, consumer=None, **settings):
    """Create a stream as another program would, optionally with a consumer of our name."""
    name = stream.address.stream
    await stream.context.add_stream(
        StreamConfig(name=name, **({"subjects": ["playback.>"]} | settings))
    )
    if consumer is not None:
        config = {"durable_name": DURABLE, "ack_policy": "explicit"} | consumer
        api = f"CONSUMER.DURABLE.CREATE.{name}.{DURABLE}"
        await ask(stream, api, stream_name=name, config=config)


def refusal(address, consumer=None, **settings):
    async def check():
        async with connect(address) as stream:
            await make(stream, consumer, **settings)
            with pytest.raises(StreamError) as caught:
                await stream.prepare()
            return caught.value

    fault = asyncio.run(check())
    assert "\n" not in fault.message + fault.hint
    assert address.stream in fault.message
    return fault


@pytest.mark.parametrize(
    "consumer",
    [
        {},
        {"ack_policy": "all"},
        {"filter_subject": "playback.tautulli-import.>"},
        {"filter_subjects": ["playback.plex.>", "playback.tautulli-import.*"]},
        {"deliver_policy": "new"},
        {"deliver_policy": "last"},
        {"deliver_policy": "last_per_subject", "filter_subject": "playback.>"},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 1},
        {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
        {"max_ack_pending": 5, "ack_wait": 10_000_000_000},
    ],
    ids=str,
)
def test_a_suitable_existing_consumer_is_used_unchanged(address, consumer):
    async def check():
        info = f"CONSUMER.INFO.{address.stream}.{DURABLE}"
        async with connect(address) as stream:
            await make(stream, consumer)
            before = (await ask(stream, info))["config"]
            await stream.prepare()
            await require_sole_consumer(stream)
            await redeliver_unacked(stream)
            assert (await ask(stream, info))["config"] == before
            got = []
            async with open_publisher(stream) as publisher, open_consumer(stream) as ours:
                await publisher.publish([event(number) for number in range(12)])
                while len(got) < 12:
                    batch = await ours.pull(12, max_bytes=10**6, linger_seconds=0.2)
                    assert batch
                    await ours.ack(batch)
                    got += [message.payload for message in batch]
                assert got == [event(number).payload for number in range(12)]
                assert (await ours.pending())[0] == 0

    asyncio.run(check())


@pytest.mark.parametrize(
    ("consumer", "reason"),
    [
        ({"deliver_subject": "elsewhere"}, "it is a push consumer"),
        ({"ack_policy": "none"}, "its ack_policy is none"),
        ({"headers_only": True}, "it delivers headers only"),
        ({"max_batch": 100}, "it limits the size of a pull (max_batch 100)"),
        (
            {"filter_subject": "playback.plex.>"},
            "its filter playback.plex.> excludes playback.tautulli-import.*",
        ),
        (
            {"filter_subjects": ["playback.tautulli-import.movie", "playback.plex.>"]},
            "its filter playback.tautulli-import.movie, playback.plex.> "
            "excludes playback.tautulli-import.*",
        ),
        (
            {"deliver_policy": "by_start_sequence", "opt_start_seq": 50},
            "it starts at message 50, but the stream is at 0",
        ),
        (
            {"deliver_policy": "by_start_time", "opt_start_time": "2999-01-01T00:00:00Z"},
            "it starts at 2999-01-01T00:00:00Z",
        ),
        (
            {"pause_until": "2999-01-01T00:00:00Z"},
            "it is paused until 2999-01-01T00:00:00Z",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_unsuitable_existing_consumer_is_refused_with_the_reason(address, consumer, reason):
    fault = refusal(address, consumer)
    assert fault.message == (
        f"consumer {DURABLE} of stream {address.stream} cannot be used: {reason}"
    )
    assert "NATS_DURABLE_NAME" in fault.hint


def test_a_consumer_that_matches_other_subjects_is_refused(address):
    fault = refusal(address, {}, subjects=["orders.>", "playback.>"])
    assert fault.message.endswith("cannot be used: its filter > matches more than playback.>")


@pytest.mark.parametrize("other", [{"filter_subject": "playback.plex.>"}, {}], ids=str)
def test_a_work_queue_with_an_overlapping_consumer_is_refused(address, other):
    async def check():
        async with connect(address) as stream:
            await make(stream, retention=RetentionPolicy.WORK_QUEUE)
            await stream.context.add_consumer(
                address.stream, ConsumerConfig(durable_name="other", **other)
            )
            with pytest.raises(StreamError, match=r"cannot prepare stream .* workqueue") as at:
                await stream.prepare()
            assert "NATS_DURABLE_NAME" in at.value.hint

    asyncio.run(check())


def test_a_stream_without_acks_or_room_for_a_consumer_is_refused(address):
    assert "no_ack" in refusal(address, no_ack=True).message
    other = replace(address, stream="WITHOUT_ROOM")

    async def check():
        async with connect(other) as stream:
            await stream.context.delete_stream(address.stream)
            await make(stream, {}, max_consumers=1)
            async with connect(replace(other, durable_name="second")) as second:
                with pytest.raises(StreamError, match="maximum consumers") as at:
                    await second.prepare()
                assert "NATS_DURABLE_NAME" in at.value.hint

    asyncio.run(check())


@pytest.mark.parametrize(
    "subjects", [["playback.*.*"], ["playback.tautulli-import.>", "orders.>"]], ids=str
)
def test_a_stream_that_captures_all_import_subjects_is_used(address, subjects):
    async def check():
        async with connect(address) as stream:
            await make(stream, subjects=subjects)
            await stream.prepare()
            async with open_publisher(stream) as publisher:
                assert (await publisher.publish([event(1)])).sequences == [1]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("playback.>", "playback.a.*", True),
        (">", "playback.>", True),
        ("*.*.*", "playback.a.*", True),
        ("playback.a.b", "playback.a.*", False),
        ("playback.*", "playback.a.*", False),
        ("playback.*.*", "playback.>", False),
        ("playback.>", "playback", False),
        ("playback.a.*", "playback.a.b", True),
        ("playback.a.*", "playback.a", False),
    ],
)
def test_covers(wide, narrow, expected):
    assert covers(wide, narrow) is expected


def test_an_account_at_its_stream_limit_gets_an_error(address, tmp_path):
    limits = (
        'accounts { A { jetstream { max_streams: 1 }, users: [ { user: "u", password: "p" } ] } }'
    )
    with external_server(tmp_path / "few", limits) as server:
        here = replace(address, url=server.url, user="u", password="p")

        async def check():
            async with connect(replace(here, stream="FIRST")) as stream:
                await make(stream, subjects=["orders.>"])
            with pytest.raises(StreamError, match="maximum number of streams reached") as at:
                async with prepared(here):
                    pass
            assert at.value.hint

        asyncio.run(check())


def test_a_second_running_consumer_is_detected_but_a_killed_one_is_not(address):
    async def check():
        async with prepared(address) as first, open_publisher(first) as publisher:
            await publisher.publish([event(number) for number in range(5)])
            async with open_consumer(first) as consumer:
                await consumer.pull(5, max_bytes=10**6, linger_seconds=0.2)
                async with prepared(address) as second:
                    await require_sole_consumer(second)  # no consumer is active
                    pulling = asyncio.create_task(
                        consumer.pull(5, max_bytes=10**6, linger_seconds=3)
                    )
                    await asyncio.sleep(0.1)
                    with pytest.raises(StreamError, match=f"as {DURABLE}") as at:
                        await require_sole_consumer(second)
                    assert "NATS_DURABLE_NAME" in at.value.hint
                    consumer.abandon_pull()
                    await pulling

    asyncio.run(check())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("playback.>", "tv.>"),
        ("playback.*.*", "$2.$1"),
        ("playback.tautulli-import.movie", "films"),
        (">", "{{wildcard(1)}}.>"),
    ],
)
def test_a_transform_that_hides_the_events_is_named(address, source, target):
    transform = SubjectTransform(src=source, dest=target)
    stream = StreamConfig(name="S", subjects=["playback.>"], subject_transform=transform)
    with pytest.raises(StreamError) as caught:
        check_stream(stream)
    assert caught.value.message == (
        "stream S hides the events of an import: "
        f"its subject_transform renames {source} to {target}"
    )
    assert "remove the subject_transform" in caught.value.hint


def test_a_transform_of_a_real_stream_is_named(address):
    transform = SubjectTransform(src="playback.>", dest="tv.>")
    assert "renames playback.> to tv.>" in refusal(address, subject_transform=transform).message


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("playback.>", "playback.archive.>"),
        ("playback.*.*", "playback.$2.{{wildcard(1)}}"),
        ("playback.plex.*", "tv.$1"),
        ("orders.>", "tv.>"),
    ],
)
def test_a_transform_that_hides_no_events_of_an_import_is_accepted(source, target):
    transform = SubjectTransform(src=source, dest=target)
    check_stream(StreamConfig(name="S", subjects=["playback.>"], subject_transform=transform))


def test_events_arrive_under_a_renamed_subject(address):
    async def check():
        async with connect(address) as stream:
            transform = SubjectTransform(src="playback.>", dest="playback.archive.>")
            await make(stream, subject_transform=transform)
            await stream.prepare()
            async with open_publisher(stream) as publisher, open_consumer(stream) as consumer:
                await publisher.publish([event(1)])
                (message,) = await consumer.pull(1, max_bytes=10**6, linger_seconds=2)
                assert message.subject == "playback.archive.tautulli-import.movie"

    asyncio.run(check())


def test_a_consumer_whose_filter_excludes_the_renamed_subjects_is_refused(address):
    transform = SubjectTransform(src="playback.>", dest="playback.archive.>")
    consumer = {"filter_subject": "playback.tautulli-import.*"}
    fault = refusal(address, consumer, subject_transform=transform)
    assert "its filter playback.tautulli-import.* excludes playback.archive.>" in fault.message


def test_a_sealed_stream_is_named():
    with pytest.raises(StreamError, match="accepts no messages, because it is sealed"):
        check_stream(StreamConfig(name="S", subjects=["playback.>"], sealed=True))


def test_the_cause_of_lost_events_is_found_in_the_settings_of_the_stream(address):
    async def check():
        async with prepared(address) as stream:
            assert await stream.cause_of_loss() == ""
            config = (await stream.context.stream_info(address.stream)).config
            await stream.context.update_stream(replace(config, max_age=300.0))
            assert await stream.cause_of_loss() == (
                f"stream {address.stream} drops events before they are consumed (max_age 300 s)"
            )
            transform = SubjectTransform(src="playback.>", dest="tv.>")
            await stream.context.update_stream(replace(config, subject_transform=transform))
            assert "its subject_transform renames" in await stream.cause_of_loss()
            await stream.context.delete_stream(address.stream)
            assert "was deleted" in await stream.cause_of_loss()

    asyncio.run(check())
