"""A running Tautulli as a source: the cheap look, the download, and everything that goes wrong."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import tracemalloc
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tautulli_pipeline.errors import ConfigurationError, SourceDamagedError, SourceError
from tautulli_pipeline.source import tautulli_api
from tautulli_pipeline.source.address import Address, Tautulli
from tautulli_pipeline.source.download import take_download
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.tautulli_api import Newest, look
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.tautulli_server import (
    KEY,
    begin,
    redirect,
    send,
    send_error,
    send_json,
    serving_tautulli,
)

PAGE = b"<html><form action='/auth/login'></form></html>"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("tautulli") / "tautulli.db"
    make_database(path, plays=[play(n) for n in (3, 7, 5)])
    return path


@pytest.fixture
def server(database):
    with serving_tautulli(database) as running:
        yield running


def client(server, key=KEY, tls_ca=None):
    return Tautulli(Address.parse(server.url), key, tls_ca)


def fault_of(tautulli, tmp_path):
    """Return message and hint of a download that fails and leaves nothing behind."""
    with pytest.raises(SourceError) as caught, take_download(tautulli, tmp_path / "snapshots"):
        pass
    assert not (tmp_path / "snapshots").exists()
    told = f"{caught.value.message} {caught.value.hint}"
    assert KEY not in told
    assert caught.value.exit_code == 3
    assert caught.value.__cause__ is None
    return told


def test_a_look_shows_the_number_of_plays_and_the_newest(server):
    assert look(client(server)) == Newest(3, 7)


def test_a_look_at_an_empty_history_shows_zeros(tmp_path):
    make_database(tmp_path / "tautulli.db")
    with serving_tautulli(tmp_path / "tautulli.db") as server:
        assert look(client(server)) == Newest(0, 0)


def test_a_download_is_a_private_copy_with_the_same_bytes(server, database, tmp_path):
    progress = []
    with take_download(
        client(server), tmp_path / "snapshots", on_copied=lambda *seen: progress.append(seen)
    ) as snapshot:
        # The copy leaves WAL mode, which the header says.
        assert snapshot.path.read_bytes()[100:] == database.read_bytes()[100:]
        assert snapshot.path.parent.stat().st_mode & 0o077 == 0
        assert str(snapshot.source) == server.url
    size = database.stat().st_size
    assert progress[-1] == (size, size)
    assert not (tmp_path / "snapshots").exists()


def test_a_prefix_a_slash_and_a_redirect_on_the_same_host_are_followed(database, tmp_path):
    with serving_tautulli(database, root="/tautulli/x") as server:
        address = Address.parse(f"{server.url}/")
        assert address.url == server.url
        assert look(Tautulli(address, KEY)) == Newest(3, 7)
        wrong = Tautulli(Address(server.url.removesuffix("/x")), KEY)
        assert "check its host, port and HTTP root" in fault_of(wrong, tmp_path)
        server.fault = lambda handler, _command: (
            handler.path.startswith("/tautulli/api")
            and redirect(handler, handler.path.replace("/api", "/x/api"))
        )
        assert look(wrong) == Newest(3, 7)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (lambda _path: "http://evil.example/api", "it redirects to another host, evil.example"),
        (lambda path: path, "it redirects more than 5 times"),
        (lambda _path: "/auth/login", "it sends a web page in place of its database"),
    ],
    ids=["another host", "endless", "login page"],
)
def test_a_redirect_that_leads_elsewhere_is_refused(server, tmp_path, location, reason):
    def answer(handler, _command):
        if handler.path == "/auth/login":
            return send(handler, 200, PAGE, "text/html")
        return redirect(handler, location(handler.path))

    server.fault = answer
    told = fault_of(client(server), tmp_path)
    assert reason in told


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda h: send_error(h, 400, "API not enabled"), "its API is switched off"),
        (lambda h: send_error(h, 404, "API not enabled"), "its API is switched off"),
        (lambda h: send_error(h, 500, f"\x1b[2J {KEY}"), "Tautulli answers '\\x1b[2J ***'"),
        (lambda h: send(h, 200, b'{"a": 1}', "application/json"), "it answers with something else"),
        (lambda h: send_json(h, 200, "success", {}), "it answers with something else"),
        (lambda h: send(h, 502, PAGE, "text/html"), "it answers with a web page"),
        (
            lambda h: send(h, 200, PAGE, "text/html"),
            "it sends a web page in place of its database",
        ),
        (
            lambda h: send(h, 200, b"%PDF-1.4" * 99, "application/pdf"),
            "it sends something else in place of its database",
        ),
        (lambda h: send(h, 200, b"", "application/octet-stream"), "that it sends is empty"),
        (lambda h: send(h, 200, b"SQLite", "application/octet-stream"), "that it sends is empty"),
        (
            lambda h: begin(h, 200, "application/octet-stream", 9_000) or h.wfile.write(b"SQLite"),
            "the connection was cut",
        ),
        (lambda h: h.connection.shutdown(socket.SHUT_RDWR) or True, "the connection was cut"),
    ],
    ids=[
        *("switched off", "switched off as 404", "another error", "other JSON", "no history"),
        *("a failing proxy", "a login page", "another file", "nothing", "a beginning"),
        *("cut off", "closed"),
    ],
)
def test_an_answer_that_is_not_the_database_is_explained(server, tmp_path, answer, reason):
    server.fault = lambda handler, _command: answer(handler)
    assert reason in fault_of(client(server), tmp_path)


def test_a_wrong_key_is_explained_without_showing_it(server, tmp_path):
    told = fault_of(client(server, "f" * 32), tmp_path)
    assert "it refuses the API key" in told
    assert "f" * 32 not in told + repr(client(server, "f" * 32)) + str(client(server, "f" * 32))


def test_a_database_that_ends_early_or_has_other_tables_is_refused(server, database, tmp_path):
    half = database.read_bytes()[: database.stat().st_size // 2]
    server.fault = lambda handler, command: (
        command == "download_database" and send(handler, 200, half, "application/octet-stream")
    )
    with (
        pytest.raises(SourceDamagedError, match="it is truncated"),
        open_source(client(server), tmp_path / "snapshots"),
    ):
        pass
    assert not (tmp_path / "snapshots").exists()


def test_nobody_at_the_address_is_explained(server, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        told = fault_of(Tautulli(Address(f"http://127.0.0.1:{port}"), KEY), tmp_path)
        assert "connection refused" in told
        unused.listen()  # accepts and never answers
        monkeypatch.setattr(tautulli_api, "_DOWNLOAD_SECONDS", 0.1)
        told = fault_of(Tautulli(Address(f"http://127.0.0.1:{port}"), KEY), tmp_path)
        assert "it sends nothing for 0.1 s" in told
    told = fault_of(Tautulli(Address("http://nowhere.invalid:1"), KEY), tmp_path)
    assert "its host is unknown" in told


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a file with a key and a certificate for 127.0.0.1 that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tautulli")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def test_a_certificate_must_be_signed_by_a_trusted_or_the_given_authority(
    database, certificate, tmp_path
):
    with serving_tautulli(database, certificate=certificate) as server:
        assert look(client(server, tls_ca=certificate)) == Newest(3, 7)
        told = fault_of(client(server), tmp_path)
        assert "its certificate is not trusted: self-signed certificate" in told
        assert "set TAUTULLI_TLS_CA" in told
        with pytest.raises(ConfigurationError, match=r"TAUTULLI_TLS_CA='none\.pem' is not usable"):
            look(client(server, tls_ca=Path("none.pem")))
        server.fault = lambda handler, _command: redirect(
            handler, f"http://127.0.0.1:{server.port}{handler.path}"
        )
        told = fault_of(client(server, tls_ca=certificate), tmp_path)
        assert "it redirects from https to an unencrypted address" in told


def test_https_to_a_server_without_tls_is_explained(server, tmp_path):
    wrong = Tautulli(Address(server.url.replace("http", "https", 1)), KEY)
    assert "write http:// in place of https://" in fault_of(wrong, tmp_path)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTP://NAS:8181/", "http://nas:8181"),
        (" https://example.org/tautulli/ ", "https://example.org/tautulli"),
        ("http://[::1]:8181", "http://[::1]:8181"),
    ],
)
def test_an_address_is_normalized(text, url):
    assert str(Address.parse(text)) == url


@pytest.mark.parametrize(
    "text",
    [
        *("http://", "http://nas:port", "http://na s", f"http://nas/?apikey={KEY}"),
        *(f"http://me:{KEY}@nas", f"http://nas/#{KEY}"),
    ],
)
def test_an_address_with_anything_else_is_refused_without_repeating_it(text):
    with pytest.raises(ConfigurationError) as caught:
        Address.parse(text)
    assert KEY not in caught.value.message + caught.value.hint


def test_a_download_needs_little_memory(server, tmp_path):
    size = 64 << 20
    block = b"SQLite format 3\0" + bytes((1 << 20) - 16)

    def answer(handler, _command):
        begin(handler, 200, "application/octet-stream", size)
        for _ in range(size // len(block)):
            handler.wfile.write(block)
        return True

    server.fault = answer
    tracemalloc.start()
    try:
        with pytest.raises(SourceError), take_download(client(server), tmp_path / "snapshots"):
            pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
