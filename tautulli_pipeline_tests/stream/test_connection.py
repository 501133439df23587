import asyncio
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from nats.js.api import (
    AckPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.connection import connect
from tautulli_pipeline.stream.consumer import open_consumer
from tautulli_pipeline.stream.publisher import open_publisher
from tautulli_pipeline.stream.takeover import redeliver_unacked
from tautulli_pipeline_tests.stream.servers import (
    messages_on,
    nats_server,
    outgoing,
    prepared,
    until_empty,
)


async def add_stream(stream, **settings):
    await stream.context.add_stream(
        StreamConfig(name=stream.address.stream, **{"subjects": ["playback.>"], **settings})
    )


async def raw_config(stream):
    """Return the stream's complete configuration as the server reports it."""
    subject = f"STREAM.INFO.{stream.address.stream}"
    answer = await stream.context._api_request(f"$JS.API.{subject}")
    return answer["config"]


def test_a_created_stream_keeps_every_message_until_it_is_consumed(address):
    async def check():
        async with prepared(replace(address, duplicate_window_seconds=7.5)) as stream:
            config = (await stream.context.stream_info(address.stream)).config
            consumer = (
                await stream.context.consumer_info(address.stream, address.durable_name)
            ).config
        assert config.subjects == ["playback.>"]
        assert config.retention == RetentionPolicy.INTEREST
        assert config.storage == StorageType.FILE
        assert config.discard == DiscardPolicy.NEW
        assert config.duplicate_window == 7.5
        limits = (config.max_age or 0, config.max_msgs, config.max_bytes, config.max_consumers)
        assert limits == (0, -1, -1, -1)
        assert consumer.durable_name == "tautulli-pipeline"
        assert consumer.filter_subject == "playback.>"
        assert consumer.ack_policy == AckPolicy.EXPLICIT
        assert consumer.max_deliver == -1

    asyncio.run(check())


def test_a_message_published_right_after_prepare_is_kept(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            await publisher.publish([outgoing(1)])
            assert await messages_on(stream) == [(1, outgoing(1))]

    asyncio.run(check())


@pytest.mark.parametrize(
    "settings",
    [
        {"retention": RetentionPolicy.LIMITS, "max_age": 3600, "max_msgs": 1000},
        {"retention": RetentionPolicy.LIMITS, "storage": StorageType.MEMORY, "max_bytes": 10**6},
        {"retention": RetentionPolicy.WORK_QUEUE, "discard": DiscardPolicy.NEW},
        {"retention": RetentionPolicy.INTEREST, "duplicate_window": 3},
        {"subjects": ["orders.*", "playback.>"]},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_an_existing_stream_is_used_unchanged(address, settings):
    async def check():
        async with connect(address) as stream:
            await add_stream(stream, **settings)
            before = await raw_config(stream)
            first = await stream.prepare()
            assert await stream.prepare() == first
            assert await raw_config(stream) == before

    asyncio.run(check())


def test_an_existing_work_queue_delivers_messages(address):
    async def check():
        async with connect(address) as stream:
            await add_stream(stream, retention=RetentionPolicy.WORK_QUEUE)
            await stream.prepare()
            async with open_publisher(stream) as publisher, open_consumer(stream) as consumer:
                await publisher.publish([outgoing(n) for n in range(20)])
                got = await consumer.pull(20, max_bytes=10**6, linger_seconds=1)
                await consumer.ack(got)
                assert [message.payload for message in got] == [
                    outgoing(n).payload for n in range(20)
                ]
                await until_empty(stream)

    asyncio.run(check())


@pytest.mark.parametrize("subjects", [["orders.>"], ["playback.plex.>"], ["playback.*.movie"]])
def test_a_stream_without_the_import_subjects_is_refused_and_gets_no_consumer(address, subjects):
    async def check():
        async with connect(address) as stream:
            await add_stream(stream, subjects=subjects)
            with pytest.raises(
                StreamError, match=r"does not capture the subjects playback\.>"
            ) as at:
                await stream.prepare()
            assert "NATS_STREAM" in at.value.hint
            info = await stream.context.stream_info(address.stream)
            assert info.state.consumer_count == 0

    asyncio.run(check())


def test_a_subject_overlap_with_another_stream_is_reported(address):
    async def check():
        async with connect(address) as stream:
            await add_stream(stream)
            other = replace(address, stream="ANOTHER")
            with pytest.raises(StreamError, match=r"cannot prepare stream ANOTHER .*overlap"):
                async with prepared(other):
                    pass

    asyncio.run(check())


def test_a_stream_recreated_with_the_same_name_is_another_stream(address):
    async def check():
        async with connect(address) as stream:
            first = await stream.prepare()
            again = await stream.prepare()
            await stream.context.delete_stream(address.stream)
            second = await stream.prepare()
        assert first == again
        assert second != first
        for found in (first, second):
            name, _, created = found.partition("@")
            assert name == address.stream
            assert datetime.fromisoformat(created).tzinfo is UTC

    asyncio.run(check())


def faults_of(*addresses):
    """Return the error message of each attempt, which must come long before the patience ends."""

    async def attempt(address):
        async with prepared(address):
            pass

    async def attempt_all():
        attempts = [attempt(address) for address in addresses]
        return await asyncio.gather(*attempts, return_exceptions=True)

    began = time.monotonic()
    faults = asyncio.run(attempt_all())
    assert time.monotonic() - began < 60
    for fault, address in zip(faults, addresses, strict=True):
        assert isinstance(fault, StreamError)
        assert "\n" not in fault.message
        assert address.url in fault.message
        assert "NATS_URL" in fault.hint
    return [fault.message for fault in faults]


def test_a_failed_connection_is_explained_in_one_line_within_seconds(address, tmp_path):
    token, api = tmp_path / "token", tmp_path / "api"
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        nats_server(
            token, f'authorization {{ token: "s3cret" }}\njetstream {{ store_dir: "{token}" }}'
        ) as token_url,
        nats_server(
            api,
            'authorization { users: [ { user: "u", password: "p", '
            'permissions: { publish: ["playback.>"] } } ] }\n'
            f'jetstream {{ store_dir: "{api}" }}',
        ) as api_url,
    ):
        anonymous = replace(address, user=None, password=None)
        messages = faults_of(
            replace(address, password="wr0ng"),
            anonymous,
            replace(anonymous, url=token_url, token="wr0ng"),
            replace(anonymous, url="nats://127.0.0.1:9"),
            replace(anonymous, url="nats://no-such-host.invalid:4222"),
            replace(anonymous, url=f"nats://127.0.0.1:{silent.getsockname()[1]}"),
            replace(address, url=api_url, user="u", password="p"),
        )
    for message, cause in zip(
        messages,
        [
            "Authorization",
            "Authorization",
            "Authorization",
            "",
            "",
            "no answer",
            "permissions violation",
        ],
        strict=True,
    ):
        assert cause in message
        assert "wr0ng" not in message
        assert message.startswith(("cannot reach the stream server at ", "cannot prepare stream "))


def test_a_token_logs_in_and_is_not_shown(address, tmp_path):
    settings = f'authorization {{ token: "s3cret" }}\njetstream {{ store_dir: "{tmp_path}" }}'

    async def check(here):
        async with prepared(here) as stream:
            assert await stream.last_sequence() == 0

    with nats_server(tmp_path, settings) as url:
        here = replace(address, url=url, user=None, password=None, token="s3cret")
        asyncio.run(check(here))
    assert "s3cret" not in repr(here)


def test_a_server_without_jetstream_is_reported(address, tmp_path):
    with nats_server(tmp_path, "") as url:
        (message,) = faults_of(replace(address, url=url, user=None, password=None))
    assert message.endswith("JetStream is not enabled on the server")


def test_an_ack_wait_left_short_by_a_killed_consumer_is_restored(address):
    async def check():
        async with prepared(address) as stream:
            config = (await stream.consumer_info())["config"]
            await stream.configure_consumer(config | {"ack_wait": 500_000_000})
            await stream.prepare()
            await redeliver_unacked(stream)
            assert (await stream.consumer_info())["config"] == config

    asyncio.run(check())
