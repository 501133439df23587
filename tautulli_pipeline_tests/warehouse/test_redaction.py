"""Secrets are removed from the text of messages, and nothing else is."""

from __future__ import annotations

import json
import time

import pytest

from tautulli_pipeline.events.columns import EVENT_FIELDS
from tautulli_pipeline.warehouse.redaction import is_secret, redact, redact_any

NESTED = json.dumps({"Account": {"authToken": "tok", "id": 1}})
CLEAN = json.dumps({"Account": {"id": 1}})
REDACTED = [
    ('{"email": "a@b", "x":1}', '{"x":1}'),
    ('{"x":1,"email":"a@b"}', '{"x":1}'),
    ('{"a":1,"token":1,"email":2}', '{"a":1}'),
    ('[{"token":1},{"token":[2,"]"]}]', "[{},{}]"),
    ('{"a":{"b":[{"apiKey":{"c":"}"}},{"d":1.50,"Password":"x"}]}}', '{"a":{"b":[{},{"d":1.50}]}}'),
    ('{"X-Plex-Token":"a","user_token":"b","auth":"c","pwd":"d"}', "{}"),
    (r'{"to\u006ben":"x\"y","a":2}', '{"a":2}'),
    ('{"token":"abc', "{"),
    ('{"a":1,"token":', '{"a":1'),
    ('{"u":"https://x/y?X-Plex-Token=abc"}', '{"u":"https://x/y"}'),
    ('{"u":"https://x/y?a=1&X-Plex-Token=abc&b=2"}', '{"u":"https://x/y?a=1&b=2"}'),
    (r'{"u":"https://x/y?X-Plex-Token=abc\u0026b=2"}', '{"u":"https://x/y?b=2"}'),
    ('{"u":"/t?url=%2Fl%3FX-Plex-Token%3Dabc%26w%3D1"}', '{"u":"/t?url=%2Fl%3Fw%3D1"}'),
    ('{"u":"https://ann:pw@host/x"}', '{"u":"https://host/x"}'),
    (json.dumps({"raw": NESTED}), json.dumps({"raw": CLEAN})),
    (json.dumps({"r": json.dumps({"r": NESTED})}), json.dumps({"r": json.dumps({"r": CLEAN})})),
]
KEPT = [
    '{"title":"Token of the email","guid":"plex://movie/1"}',
    '{"a":2,"a":3,"n":123456789012345678901234567890,"f":1.50,"e":"\\u00e9"}',
    '{"thumb":"/library/metadata/1/thumb/2","iPhone":1}',
]
HOSTILE = {
    "escaped quotes": '"' + '\\"' * 250_000,
    "quotes": '"' * 500_000,
    "brackets": '{"token":' + "[" * 500_000,
    "secrets": "{" + '"token":1,' * 50_000 + "}",
    "secrets without commas": "{" + '"token":1 ' * 50_000 + "}",
    "spaces": '{"token":1' + " " * 500_000,
    "parameters": '{"a":"' + "?token=" * 70_000 + '"}',
    "addresses": '{"a":"' + "://a" * 125_000 + '"}',
    "names": "token" * 100_000,
    "open quotes": "token='" * 70_000,
    "commas": '{"a":1' + "," * 500_000,
}


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_secrets_are_removed(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_text_without_secrets_keeps_its_bytes(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "token=abcdef&b=2",
        "password: abcdef",
        '<User authToken="abcdef" id="1"/>',
        "GET /x?X-Plex-Token=abcdef HTTP/1.1",
        '{"email": "abcdef", nonsense',
    ],
)
def test_secrets_in_text_that_is_not_json_are_removed(text: str) -> None:
    assert "abcdef" not in redact_any(text)


def test_no_field_of_an_event_counts_as_a_secret() -> None:
    assert not [name for name in EVENT_FIELDS if is_secret(name)]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_time_in_proportion_to_its_size(name: str) -> None:
    began_at = time.process_time()
    redact_any(HOSTILE[name])
    assert time.process_time() - began_at < 5
