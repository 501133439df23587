"""Parsing server addresses without ever showing a password."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.stream.address import (
    StreamAddress,
    parse_servers,
)

ADDRESS = StreamAddress("nats://127.0.0.1:4222", "S", "durable", 120)
HOSTS = st.text("abcz019-", min_size=1, max_size=8).map("h{}.example".format)
PORTS = st.integers(1, 65_535)
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["nats", "tls"]), HOSTS, PORTS), min_size=1, max_size=4))
def test_servers_keep_their_order(servers):
    written = [f"{scheme}://{host}:{port}" for scheme, host, port in servers]
    assert parse_servers(",".join(written)) == (written, {})
    assert parse_servers(" , ".join([*written, ""])) == parse_servers(",".join(written))


@given(SECRETS, SECRETS, HOSTS)
def test_user_and_password_are_unescaped_and_not_in_the_urls(user, password, host):
    url = f"nats://{quote(user, safe='')}:{quote(password, safe='')}@{host}:5222"
    login = {"user": user, "password": password}
    assert parse_servers(url) == ([f"nats://{host}:5222"], login)
    assert replace(ADDRESS, url=url).shown_url == f"nats://{host}:5222"
    address = replace(ADDRESS, url=url, password=password, token=password)
    assert repr(address) == repr(replace(ADDRESS, password="other"))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("localhost", "nats://localhost:4222"),
        ("localhost:80", "nats://localhost:80"),
        ("NATS://LocalHost", "nats://localhost:4222"),
        ("nats://host/", "nats://host:4222"),
        ("tls://10.0.0.1", "tls://10.0.0.1:4222"),
        ("[::1]", "nats://[::1]:4222"),
        ("nats://[fe80::1]:99", "nats://[fe80::1]:99"),
        ("nats://host:0", "nats://host:4222"),
    ],
)
def test_missing_parts_of_an_address_get_defaults(url, server):
    assert parse_servers(url) == ([server], {})


@pytest.mark.parametrize(
    "url",
    [
        *("nats://h/path", "nats://h:70000", "nats://h:-1", "nats://[::1", "nats://u:p@"),
        *("amqp://u:p@h", "h1,http://h2", "nats://h 1", "://h", "nats:h"),
    ],
)
def test_an_invalid_address_is_refused_without_showing_the_password(url):
    with pytest.raises(ConfigurationError) as caught:
        parse_servers(url)
    assert "must be nats://host:port or tls://host:port" in caught.value.message
    assert "u:p" not in caught.value.message
    assert "commas" in caught.value.hint


def test_one_login_may_be_given_for_some_or_all_servers():
    for url in ("nats://u:p@a,nats://b", "nats://a,nats://u:p@b", "nats://u:p@a,nats://u:p@b"):
        servers, login = parse_servers(url)
        assert login == {"user": "u", "password": "p"}
        assert servers == ["nats://a:4222", "nats://b:4222"]


@pytest.mark.parametrize("other", ["nats://v:p@b", "nats://u:q@b", "nats://u@b"])
def test_two_different_logins_are_refused_and_not_shown(other):
    with pytest.raises(ConfigurationError) as caught:
        parse_servers(f"nats://u:p@a,{other}")
    assert caught.value.message == (
        "NATS_URL='nats://a,nats://b' is not usable: it must use one login for all servers"
    )


def test_the_shown_url_has_no_logins():
    url = "nats://u:p@a:1,tls://token@b:2,c:3"
    assert replace(ADDRESS, url=url).shown_url == "nats://a:1,tls://b:2,c:3"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("u:s3cret@h:1", "h:1"),
        ("nats://a, u:s3cret@b", "nats://b"),
        ("nats://u:s3/cr//et@h", "nats://h"),
        ("nats://u:s3,cret@h", "nats://h"),
        ("nats://u:s3,cret@h,tls://v:s3cret@i,j", "nats://h,tls://i,j"),
        ("nats://u:s3@cret@h", "nats://h"),
        ("nats://u:s3\ncret@h", "nats://h"),
    ],
)
def test_no_part_of_an_unescaped_password_is_shown(url, shown):
    assert replace(ADDRESS, url=url).shown_url == shown
    with pytest.raises(ConfigurationError) as caught:
        parse_servers(f"{url},http://x")
    assert repr(f"{shown},http://x") in caught.value.message
