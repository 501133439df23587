import asyncio

import pytest

from tautulli_pipeline.stream.server import EmbeddedServer
from tautulli_pipeline_tests.stream.servers import address_on, delete_stream


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("stream")) as running:
        yield running


@pytest.fixture
def address(server):
    """A stream name of the test's own on an empty server."""
    given = address_on(server)
    yield given
    asyncio.run(delete_stream(given))
