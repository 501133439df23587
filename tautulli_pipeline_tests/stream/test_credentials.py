"""Reading credentials files without ever showing their secrets."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.exceptions import InvalidSignature
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.stream.credentials import read_credentials
from tautulli_pipeline_tests.nats_credentials import Trust


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return Trust().write_credentials(tmp_path_factory.mktemp("creds") / "user.creds")


def seed_in(path):
    return path.read_text().split("SEED-----\n")[1].split("\n")[0]


def test_the_jwt_is_read_unchanged_and_key_and_seed_are_not_shown(path):
    credentials = read_credentials(path)
    assert f"JWT-----\n{credentials.jwt.decode()}\n---" in path.read_text()
    assert "key" not in repr(credentials)
    assert seed_in(path) not in repr(credentials)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_a_signature_verifies_only_its_challenge(path, challenge):
    credentials = read_credentials(path)
    public = credentials.key.public_key()
    signature = base64.b64decode(credentials.sign(challenge), validate=True)
    public.verify(signature, challenge.encode())
    with pytest.raises(InvalidSignature):
        public.verify(signature, f"{challenge}.".encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: f"# a comment\n{text}",
        lambda text: text.replace("-----BEGIN", "---BEGIN").replace("-----\n", "---\n"),
        lambda text: "\n".join(reversed(text.split("\n\n"))),
    ],
    ids=["Windows line ends", "leading comment", "short dashes", "seed first"],
)
def test_other_file_layouts_are_accepted(path, tmp_path, change):
    other = tmp_path / "other.creds"
    other.write_bytes(change(path.read_text()).encode())
    assert read_credentials(other).jwt == read_credentials(path).jwt
    assert read_credentials(other).sign("nonce") == read_credentials(path).sign("nonce")


@pytest.mark.parametrize("place", [3, 20, 40, 56])
def test_one_wrong_letter_in_the_seed_is_detected(path, tmp_path, place):
    seed = seed_in(path)
    other = "A" if seed[place] != "A" else "B"
    wrong = tmp_path / "wrong.creds"
    wrong.write_text(path.read_text().replace(seed, seed[:place] + other + seed[place + 1 :]))
    with pytest.raises(ConfigurationError, match=r"it is damaged$") as caught:
        read_credentials(wrong)
    assert seed[5:] not in caught.value.message
    assert "nsc" in caught.value.hint


def test_a_login_is_valid_until_it_expires(tmp_path):
    now = int(time.time())
    soon = Trust().write_credentials(tmp_path / "soon.creds", exp=now + 60)
    assert read_credentials(soon)
    past = Trust().write_credentials(tmp_path / "past.creds", exp=now - 1)
    with pytest.raises(ConfigurationError, match=r"it expired at \d{4}-\d\d-\d\d \d\d:\d\d UTC$"):
        read_credentials(past)


@pytest.mark.parametrize(
    "claims",
    [
        b"[]",
        b"7",
        b'{"exp": "soon"}',
        b'{"exp": 1e15}',
        b'{"exp": 1e17}',
        b'{"exp": 1e300}',
        b'{"exp": [1]}',
    ],
)
def test_a_jwt_with_invalid_claims_is_damaged(path, tmp_path, claims):
    head, _, signature = read_credentials(path).jwt.split(b".")
    odd = b".".join([head, base64.urlsafe_b64encode(claims).rstrip(b"="), signature])
    wrong = tmp_path / "wrong.creds"
    wrong.write_bytes(path.read_bytes().replace(read_credentials(path).jwt, odd))
    with pytest.raises(ConfigurationError, match=r"it is damaged$"):
        read_credentials(wrong)
