"""Asks a running Tautulli over its API. Each request holds the key, so no URL is ever shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

import orjson
import urllib3
from urllib3 import exceptions
from urllib3.response import BaseHTTPResponse

from tautulli_pipeline.errors import ConfigurationError, SourceError
from tautulli_pipeline.source.address import Tautulli
from tautulli_pipeline.source.faults import refused

_CONNECT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 30.0
# Tautulli copies its database before it sends the first byte.
_DOWNLOAD_SECONDS: Final = 300.0
_MAX_REDIRECTS: Final = 5
_MAX_ANSWER_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 20
_MESSAGE_CHARACTERS: Final = 200

_CHECK_ADDRESS: Final = "check its host, port and HTTP root, as in http://nas:8181/tautulli"
_CHECK_KEY: Final = (
    "copy the key from Tautulli's Settings > Web Interface to TAUTULLI_API_KEY, or to the file "
    "that TAUTULLI_API_KEY_FILE names"
)
_ENABLE: Final = "enable the API in Tautulli's Settings > Web Interface"


@dataclass(frozen=True)
class Newest:
    """What a cheap look shows of a history: the number of its plays and its newest row.

    Edits of older plays do not show.
    """

    plays: int
    row_id: int


@dataclass(frozen=True)
class Download:
    """A database that is being sent: its size, if it is known, and its bytes."""

    size_bytes: int | None
    chunks: Iterator[bytes]


def look(tautulli: Tautulli) -> Newest:
    """Return the number of plays and the newest row id; 0 if there are no plays.

    Raises:
        SourceError: it does not answer, refuses the key, or is not a Tautulli.
    """
    parameters = {"cmd": "get_history", "grouping": 0, "include_activity": 0, "length": 1}
    with _asked(tautulli, parameters, _LOOK_SECONDS) as response:
        try:
            data = _answer(tautulli, response)["data"]
            rows = data["data"]
            return Newest(int(data["recordsTotal"]), int(rows[0]["row_id"] or 0) if rows else 0)
        except (KeyError, TypeError, ValueError, IndexError):
            raise _foreign(tautulli, response) from None


@contextmanager
def open_download(tautulli: Tautulli) -> Iterator[Download]:
    """Ask for the database, and yield it as it is sent.

    Reading the chunks raises the errors below as well.

    Raises:
        SourceError: it does not answer, refuses the key, is not a Tautulli, or the connection is
            cut before the last byte.
    """
    with _asked(tautulli, {"cmd": "download_database"}, _DOWNLOAD_SECONDS) as response:
        if "json" in response.headers.get("Content-Type", ""):
            _answer(tautulli, response)  # raises its error
            raise _foreign(tautulli, response)
        length = response.headers.get("Content-Length", "")
        yield Download(int(length) if length.isdecimal() else None, response.stream(_CHUNK_BYTES))


@contextmanager
def _asked(
    tautulli: Tautulli, parameters: Mapping[str, object], read_seconds: float
) -> Iterator[BaseHTTPResponse]:
    """Send a request and yield its answer, whose body is not read yet."""
    query = urlencode({"apikey": tautulli.api_key, **parameters})
    url = f"{tautulli.address}/api/v2?{query}"
    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds)
    with _explained(tautulli, read_seconds), _open_pool(tautulli) as pool:
        for _ in range(_MAX_REDIRECTS + 1):
            response = pool.request(
                "GET",
                url,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=timeout,
                headers={"Accept-Encoding": "identity", "User-Agent": "tautulli-pipeline"},
            )
            with closing(response):
                location = response.get_redirect_location()
                if not location:
                    if response.status != HTTPStatus.OK:
                        _answer(tautulli, response)
                        raise _foreign(tautulli, response)
                    yield response
                    return
                url = _redirected(tautulli, url, location)
        raise refused(tautulli.address, f"it redirects more than {_MAX_REDIRECTS} times")


def _open_pool(tautulli: Tautulli) -> urllib3.PoolManager:
    authority = tautulli.tls_ca
    if authority is not None and not authority.is_file():
        raise ConfigurationError(
            f"TAUTULLI_TLS_CA={str(authority)!r} is not usable: there is no such file",
            hint="set it to the certificate of the authority, in PEM format, or unset it",
        )
    return urllib3.PoolManager(
        1, cert_reqs="CERT_REQUIRED", ca_certs=str(authority) if authority else None
    )


def _redirected(tautulli: Tautulli, url: str, location: str) -> str:
    """Return where a redirect leads; the key must not get to another host or lose its TLS."""
    before, target = urlsplit(url), urljoin(url, location)
    after = urlsplit(target)
    if after.hostname != before.hostname:
        where = f"it redirects to another host, {after.hostname or 'without a name'}"
        raise refused(tautulli.address, where, "give the address of the Tautulli itself")
    if after.scheme not in {"https", before.scheme}:
        where = "it redirects from https to an unencrypted address"
        raise refused(tautulli.address, where, "give the address of the Tautulli itself")
    return target


def _answer(tautulli: Tautulli, response: BaseHTTPResponse) -> dict[str, Any]:
    """Return the member `response` of an answer.

    Raises:
        SourceError: the answer is an error, or not one of Tautulli's.
    """
    body = response.read(_MAX_ANSWER_BYTES + 1)
    try:
        answer: dict[str, Any] = orjson.loads(body)["response"]
        result, message = answer["result"], answer.get("message")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _foreign(tautulli, response) from None
    if result == "success" and response.status == HTTPStatus.OK:
        return answer
    raise _refusal(tautulli, response.status, str(message or result))


def _refusal(tautulli: Tautulli, status: int, message: str) -> SourceError:
    """Return the error for an answer that says why Tautulli does not do what was asked."""
    words = message.lower()
    if "apikey" in words or "api key" in words or status == HTTPStatus.UNAUTHORIZED:
        return refused(tautulli.address, "it refuses the API key", _CHECK_KEY)
    if "not enabled" in words:
        return refused(tautulli.address, "its API is switched off", _ENABLE)
    shown = message.replace(tautulli.api_key, "***")[:_MESSAGE_CHARACTERS]
    return refused(tautulli.address, f"Tautulli answers {shown!r} (status {status})")


def _foreign(tautulli: Tautulli, response: BaseHTTPResponse) -> SourceError:
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    what = "a web page" if kind == "text/html" else "something else"
    reason = f"it answers with {what} in place of Tautulli's API (status {response.status})"
    return refused(tautulli.address, reason, _CHECK_ADDRESS)


@contextmanager
def _explained(tautulli: Tautulli, read_seconds: float) -> Iterator[None]:
    """Replace the errors of the HTTP client, whose texts may hold the URL."""
    try:
        yield
    except exceptions.SSLError as error:
        reason, hint = _tls_fault(str(error))
    except exceptions.NameResolutionError:
        reason, hint = "its host is unknown", _CHECK_ADDRESS
    except exceptions.NewConnectionError as error:
        cause = error.__cause__
        reason = (cause.strerror if isinstance(cause, OSError) else None) or "it does not answer"
        reason, hint = reason.lower(), f"check that Tautulli runs; {_CHECK_ADDRESS}"
    except exceptions.ConnectTimeoutError:
        reason, hint = f"it does not answer within {_CONNECT_SECONDS:g} s", _CHECK_ADDRESS
    except exceptions.ReadTimeoutError:
        reason = f"it sends nothing for {read_seconds:g} s"
        hint = "check whether Tautulli is overloaded, then try again"
    except exceptions.ProtocolError:
        reason, hint = "the connection was cut", "try again; nothing is left behind"
    except exceptions.HTTPError as error:
        reason, hint = f"the request failed ({type(error).__name__})", _CHECK_ADDRESS
    else:
        return
    raise refused(tautulli.address, reason, hint)


def _tls_fault(text: str) -> tuple[str, str]:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        detail = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        reason = f"its certificate is not trusted{': ' * bool(detail)}{detail}"
        return reason, "set TAUTULLI_TLS_CA to the certificate of its authority, in PEM format"
    if any(sign in text for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST")):
        return "it does not speak TLS", "write http:// in place of https://"
    return "its TLS connection failed", "check TAUTULLI_TLS_CA and the certificate of the server"
