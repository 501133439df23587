import asyncio
import time
from dataclasses import replace

import pytest
import trustme

from tautulli_pipeline.errors import ConfigurationError, PipelineError, StreamError
from tautulli_pipeline.stream.address import StreamAddress, parse_servers
from tautulli_pipeline_tests.external_server import external_server
from tautulli_pipeline_tests.nats_credentials import Trust
from tautulli_pipeline_tests.stream.servers import prepared


def address_of(server, url=None, **fields):
    return StreamAddress(url or server.url, "S", "durable", 120, **fields)


def connects(address):
    async def check():
        async with prepared(address) as stream:
            return await stream.last_sequence()

    assert asyncio.run(check()) == 0


def refuses(address):
    """Return the error, which must be raised immediately."""

    async def check():
        async with prepared(address):
            pass

    began = time.monotonic()
    with pytest.raises(PipelineError) as caught:
        asyncio.run(check())
    assert time.monotonic() - began < 30
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.fixture(scope="module")
def trust():
    return Trust()


@pytest.fixture(scope="module")
def with_users(tmp_path_factory):
    users = 'authorization { users: [ { user: "me", password: "p@ss:w/rd" } ] }'
    with external_server(tmp_path_factory.mktemp("users"), users) as server:
        yield server


@pytest.fixture(scope="module")
def with_jwts(trust, tmp_path_factory):
    with external_server(tmp_path_factory.mktemp("jwts"), trust.configuration) as server:
        yield server


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def with_tls(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    pem = folder / "server.pem"
    with external_server(folder, f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}') as server:
        yield server


def test_a_user_can_log_in_by_variables_or_by_an_escaped_url(with_users):
    connects(address_of(with_users, user="me", password="p@ss:w/rd"))
    connects(address_of(with_users, f"nats://me:p%40ss%3Aw%2Frd@127.0.0.1:{with_users.port}"))


def test_the_reachable_server_of_several_is_used(with_users):
    url = f"nats://me:p%40ss%3Aw%2Frd@127.0.0.1:1, 127.0.0.1:{with_users.port}"
    connects(address_of(with_users, url))


def test_a_password_in_the_url_is_not_shown(with_users):
    address = address_of(with_users, f"nats://me:wr0ng@127.0.0.1:{with_users.port}")
    fault = refuses(address)
    assert isinstance(fault, StreamError)
    assert fault.message == (
        f"cannot reach the stream server at nats://127.0.0.1:{with_users.port}: "
        "it refused the login: 'Authorization Violation'"
    )
    assert "wr0ng" not in repr(address)
    assert "wr0ng" not in refuses(replace(address, url="nats://me:wr0ng@127.0.0.1:99999")).message


def test_a_credentials_file_logs_in(with_jwts, trust, tmp_path):
    good = trust.write_credentials(tmp_path / "good.creds", exp=int(time.time()) + 600)
    connects(address_of(with_jwts, credentials_file=good))
    foreign = Trust().write_credentials(tmp_path / "foreign.creds")
    fault = refuses(address_of(with_jwts, credentials_file=foreign))
    assert isinstance(fault, StreamError)
    assert "it refused the login: 'Authorization Violation'" in fault.message
    assert fault.hint == "check NATS_URL and NATS_CREDS"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda text: "", "it contains no user JWT"),
        (lambda text: text.split("\n\n")[0], "it contains no user seed"),
        (lambda text: text.replace("SEED-----\nSU", "SEED-----\nSUAAA"), "it is damaged"),
        (lambda text: text.replace("JWT-----\ne", "JWT-----\n!"), "it contains no user JWT"),
        (lambda text: text.replace(".eyJ", ".AAA", 1), "it is damaged"),
    ],
    ids=["empty", "no seed", "damaged seed", "no JWT", "damaged JWT"],
)
def test_an_invalid_credentials_file_is_a_configuration_error(trust, tmp_path, change, cause):
    path = trust.write_credentials(tmp_path / "user.creds")
    path.write_text(change(path.read_text()))
    fault = refuses(StreamAddress("nats://127.0.0.1:1", "S", "d", 1, credentials_file=path))
    assert isinstance(fault, ConfigurationError)
    assert fault.message == f"NATS_CREDS={str(path)!r} is not usable as a credentials file: {cause}"


def test_expired_or_unreadable_credentials_are_a_configuration_error(trust, tmp_path):
    late = trust.write_credentials(tmp_path / "late.creds", exp=1_000_000_000)
    for path, ending in [
        (late, "it expired at 2001-09-09 01:46 UTC"),
        (tmp_path / "none.creds", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ]:
        fault = refuses(StreamAddress("nats://127.0.0.1:1", "S", "d", 1, credentials_file=path))
        assert isinstance(fault, ConfigurationError)
        assert fault.message.startswith(f"NATS_CREDS={str(path)!r} ")
        assert fault.message.endswith(ending)


def test_tls_works_with_a_custom_ca(with_tls, ca_file):
    for host in ("localhost", "127.0.0.1"):
        for scheme in ("nats", "tls"):
            url = f"{scheme}://{host}:{with_tls.port}"
            connects(address_of(with_tls, url, ca_file=ca_file))


def test_an_untrusted_certificate_is_reported(with_tls, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for ca in (None, other):
        fault = refuses(address_of(with_tls, ca_file=ca))
        assert isinstance(fault, StreamError)
        assert "its certificate is not trusted: " in fault.message
        assert "NATS_TLS_CA" in fault.hint


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\n"])
def test_an_invalid_ca_file_is_a_configuration_error(content, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    fault = refuses(StreamAddress("nats://127.0.0.1:1", "S", "d", 1, ca_file=path))
    assert isinstance(fault, ConfigurationError)
    assert fault.message.startswith(f"NATS_TLS_CA={str(path)!r} is not usable: ")


def test_a_tls_client_refuses_a_server_without_tls(with_users, ca_file):
    for address in (
        address_of(with_users, f"tls://me:p%40ss%3Aw%2Frd@127.0.0.1:{with_users.port}"),
        address_of(with_users, user="me", password="p@ss:w/rd", ca_file=ca_file),
    ):
        fault = refuses(address)
        assert isinstance(fault, StreamError)
        assert fault.message.endswith("it does not offer TLS")


def test_tls_is_used_if_the_server_makes_it_optional(authority, ca_file, tmp_path):
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    tls = f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}\nallow_non_tls: true'
    with external_server(tmp_path, tls) as server:

        async def check(address):
            async with prepared(address) as stream:
                return stream.client._transport._io_writer.get_extra_info("ssl_object") is not None

        url = f"tls://localhost:{server.port}"
        assert asyncio.run(check(address_of(server, url, ca_file=ca_file)))
        assert not asyncio.run(check(address_of(server)))


@pytest.mark.parametrize(
    "url",
    ["", ",", "http://host:4222", "ws://host", "nats://", "nats://:4222", "nats://h:x", "a b"],
)
def test_an_invalid_address_is_a_configuration_error(url):
    with pytest.raises(ConfigurationError, match=r"^NATS_URL='.*' is not usable: it must be nats:"):
        parse_servers(url)


def test_two_users_or_a_password_without_a_user_are_refused():
    with pytest.raises(ConfigurationError, match=r"^NATS_URL='nats://a,nats://b' .* one login"):
        parse_servers("nats://u:p@a,nats://v:p@b")
    fault = refuses(StreamAddress("nats://127.0.0.1:1", "S", "d", 1, password="s3cret"))
    assert (type(fault), "s3cret" in str(fault)) == (ConfigurationError, False)


def test_server_urls_contain_no_secrets():
    servers, login = parse_servers("tls://u:p@h1:4000,h2,nats://[::1]:5")
    assert servers == ["tls://h1:4000", "nats://h2:4222", "nats://[::1]:5"]
    assert login == {"user": "u", "password": "p"}
    assert parse_servers("nats://t0ken@h") == (["nats://h:4222"], {"token": "t0ken"})
