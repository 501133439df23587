"""JetStream requests: creating, recreating, retrying and reporting errors."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.adoption import HINTS, PERMISSION_HINT
from tautulli_pipeline.stream.jetstream import MAX_UNACKED_MESSAGES, JetStream
from tautulli_pipeline.stream.login import connection_hint
from tautulli_pipeline.stream.patience import unless
from tautulli_pipeline.stream.publisher import open_publisher
from tautulli_pipeline_tests.stream.servers import eventually, outgoing, prepared

NOWHERE = StreamAddress("nats://me:s3cret@127.0.0.1:1", "MEDIA", "durable", 120)
USUAL_HINT = "check NATS_URL and that JetStream is enabled for this account"


def unconnected():
    return JetStream(Client(), NOWHERE, on_wait=lambda _reason: None)


@pytest.mark.parametrize(
    ("error", "cause", "hint"),
    [
        (APIError(400, "subjects overlap", 10065), "subjects overlap", HINTS[10065]),
        (APIError(400, "odd", 1), "odd", USUAL_HINT),
        (APIError(400, None, 10065), "nats: APIError: code=400 err_code=10065", None),
        (NoRespondersError(), "JetStream is not enabled on the server", USUAL_HINT),
        (
            ServiceUnavailableError(503, None, None),
            "JetStream is not enabled on the server",
            USUAL_HINT,
        ),
        (
            ConnectionClosedError(),
            "the server closed the connection: nats: connection closed",
            None,
        ),
        (TimeoutError(), "TimeoutError", USUAL_HINT),
        (OSError("no route"), "no route", USUAL_HINT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_names_operation_stream_server_and_cause_but_no_password(error, cause, hint):
    fault = unconnected().request_error("read", error)
    assert fault.message.startswith(f"cannot read stream MEDIA at nats://127.0.0.1:1: {cause}")
    assert fault.hint == (hint or USUAL_HINT)


def test_no_hint_about_the_embedded_server_names_settings_of_an_external_one():
    private = replace(NOWHERE, private=True, user="pipeline", password="s3cret")
    stream = JetStream(Client(), private, on_wait=lambda _reason: None)
    hints = [
        stream.request_error("read", error).hint
        for error in (TimeoutError(), ConnectionClosedError(), NoRespondersError())
    ]
    hints += [connection_hint(private, cause) for cause in ("no answer", "it refused the login")]
    assert {*hints} == {hints[0]}
    assert "NATS_" not in hints[0]
    assert "import again to resume" in hints[0]


def test_a_missing_answer_is_explained_by_the_permission_error():
    stream = unconnected()
    stream.deny("nats: Permissions Violation for Publish to '$JS.API.STREAM.INFO.MEDIA'")
    assert stream.denied == "Permissions Violation for Publish to '$JS.API.STREAM.INFO.MEDIA'"
    fault = stream.request_error("prepare", TimeoutError())
    assert fault.message.endswith(f": {stream.denied}")
    assert fault.hint == PERMISSION_HINT


def test_a_denied_request_fails_immediately():
    async def check():
        stream = unconnected()
        assert await unless(stream.unanswered, asyncio.sleep(0, "answer")) == "answer"
        asyncio.get_running_loop().call_later(0.02, stream.deny, "nats: no")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await unless(stream.unanswered, asyncio.sleep(60))
        assert time.monotonic() - began < 30

    asyncio.run(check())


def test_preparing_twice_finds_the_existing_stream_and_consumer(address):
    async def check():
        async with prepared(address) as stream:
            made = (await stream.find_or_create_consumer())["created"]
            assert await stream.prepare() == stream.identity
            assert (await stream.find_or_create_consumer())["created"] == made
            config = (await stream.consumer_info())["config"]
            assert config["max_ack_pending"] == MAX_UNACKED_MESSAGES
            assert stream.limits.max_unacked == MAX_UNACKED_MESSAGES
            assert await stream.last_sequence() == 0

    asyncio.run(check())


def test_a_deleted_consumer_is_recreated_unless_its_stream_is_gone(address):
    async def check():
        async with prepared(address) as stream, open_publisher(stream) as publisher:
            await publisher.publish([outgoing(1)])
            await stream.context.delete_consumer(address.stream, address.durable_name)
            assert (await stream.ensure_consumer())["name"] == address.durable_name
            await stream.context.delete_stream(address.stream)
            with pytest.raises(StreamError, match="was deleted while the import ran"):
                await stream.ensure_consumer()
            with pytest.raises(StreamError, match="was deleted while the import ran"):
                await stream.last_sequence()

    asyncio.run(check())


def test_a_refused_consumer_update_raises_the_error_of_the_server(address):
    async def check():
        async with prepared(address) as stream:
            config = (await stream.find_or_create_consumer())["config"]
            with pytest.raises(APIError, match="deliver policy can not be updated"):
                await stream.configure_consumer(config | {"deliver_policy": "new"})
            changed = await stream.configure_consumer(config | {"ack_wait": 9_000_000_000})
            assert changed["config"] == config | {"ack_wait": 9_000_000_000}

    asyncio.run(check())


def test_a_retried_request_reports_its_waits_and_names_its_operation_in_the_error(address):
    reasons, asked = [], []

    async def unreachable_at_first():
        asked.append(None)
        if len(asked) < 3:
            raise NoRespondersError
        raise NotFoundError(404, "stream not found", 10059)

    async def check():
        async with prepared(address, on_wait=reasons.append) as stream:
            with pytest.raises(StreamError, match=r"cannot look at stream .*: stream not found$"):
                await stream.retry("look at", unreachable_at_first)
            await eventually(lambda: len(reasons) == 2)

    asyncio.run(check())
    assert set(reasons) == {"the stream server is unreachable; waiting for it to come back"}
