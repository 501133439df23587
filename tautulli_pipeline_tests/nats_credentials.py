"""Operator, account and users for a server with JWT authentication, and credentials files."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from pathlib import Path

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
_SEED = 18 << 3
_STORAGE = ("mem_storage", "disk_storage", "streams", "consumer")
_TRAFFIC = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
_UNLIMITED: dict[str, Any] = dict.fromkeys((*_STORAGE, *_TRAFFIC), -1)


class Key:
    """An nkey."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._private = Ed25519PrivateKey.generate()
        self.public = _encoded(bytes([kind]) + self._private.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        head = bytes([_SEED | self._kind >> 5, (self._kind & 31) << 3])
        return _encoded(head + self._private.private_bytes_raw())

    def sign(self, subject: Key, claims: dict[str, Any], **times: int) -> str:
        """Return a signed JWT with `claims` about `subject`."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        now = int(time.time())
        body = {"jti": "id", "iat": now, "iss": self.public, "name": "test", "sub": subject.public}
        parts = [_segment(head), _segment(body | times | {"nats": claims | {"version": 2}})]
        signature = self._private.sign(".".join(parts).encode())
        return ".".join([*parts, _url_base64(signature)])


class Trust:
    """A trust configuration for a server, and credentials for its users."""

    def __init__(self) -> None:
        operator, account, system = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT)
        claims = {"type": "account", "limits": _UNLIMITED | {"wildcards": True}}
        without_jetstream = claims | {"limits": claims["limits"] | dict.fromkeys(_STORAGE, 0)}
        self._account = account
        self.configuration = (
            f"operator: {operator.sign(operator, {'type': 'operator'})}\n"
            "resolver: MEMORY\n"
            f"system_account: {system.public}\n"
            "resolver_preload: {\n"
            f"  {account.public}: {operator.sign(account, claims)}\n"
            f"  {system.public}: {operator.sign(system, without_jetstream)}\n"
            "}"
        )

    def write_credentials(self, path: Path, **times: int) -> Path:
        """Write a credentials file for a new user of the account."""
        user = Key(USER)
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        jwt = self._account.sign(user, claims, **times)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return path


def _encoded(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def _url_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _segment(content: dict[str, Any]) -> str:
    return _url_base64(json.dumps(content).encode())
