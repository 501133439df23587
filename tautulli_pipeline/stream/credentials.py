"""NATS credentials files: a user JWT and the key that signs the server's challenge."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tautulli_pipeline.errors import ConfigurationError

_JWT: Final = re.compile(rb"-{3,}BEGIN NATS USER JWT-{3,}\s+([\w-]+\.[\w-]+\.[\w-]+)\s")
_SEED: Final = re.compile(rb"-{3,}BEGIN USER NKEY SEED-{3,}\s+(S[A-Z2-7]+)")
# A seed consists of a two-byte type prefix, the key and a checksum.
_SEED_BYTES: Final = 36
_HINT: Final = "generate the file again with `nsc generate creds`"


@dataclass(frozen=True)
class Credentials:
    """The contents of a credentials file."""

    jwt: bytes
    key: Ed25519PrivateKey = field(repr=False)

    def sign(self, challenge: str) -> bytes:
        """Return the signature of the server's challenge in base64."""
        return base64.b64encode(self.key.sign(challenge.encode()))


def read_credentials(path: Path) -> Credentials:
    """Read the credentials file set in `NATS_CREDS`.

    Raises:
        ConfigurationError: the file is unreadable, invalid or expired.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"NATS_CREDS={str(path)!r} cannot be read: {error.strerror}",
            hint="set NATS_CREDS to a readable credentials file",
        ) from error
    jwt, seed = _JWT.search(content), _SEED.search(content)
    if jwt is None or seed is None:
        missing = "user JWT" if jwt is None else "user seed"
        raise _unusable(path, f"it contains no {missing}")
    try:
        expires = _expiry(jwt[1])
        key = Ed25519PrivateKey.from_private_bytes(_key_of(seed[1]))
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise _unusable(path, "it is damaged") from error
    if expires is not None and expires < datetime.now(UTC):
        raise _unusable(path, f"it expired at {expires:%Y-%m-%d %H:%M} UTC")
    return Credentials(jwt[1], key)


def _expiry(jwt: bytes) -> datetime | None:
    seconds = orjson.loads(_decoded(jwt.split(b".")[1])).get("exp")
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _key_of(seed: bytes) -> bytes:
    raw = base64.b32decode(seed + b"=" * (-len(seed) % 8))
    checksum = binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little")
    if len(raw) != _SEED_BYTES or raw[-2:] != checksum:
        raise ValueError
    return raw[2:-2]


def _unusable(path: Path, cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"NATS_CREDS={str(path)!r} is not usable as a credentials file: {cause}", hint=_HINT
    )
