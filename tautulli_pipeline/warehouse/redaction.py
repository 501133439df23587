"""Removes secrets and contact data from messages of other producers, before they are stored.

It works on the text, so that everything else keeps its bytes, and a message that is cut off or
is not JSON at all is cleaned as well. Each pass takes time in proportion to the text.
"""

from __future__ import annotations

import json
import re
from typing import Final

_WORDS: Final = (
    "token|passw|passphrase|secret|(?:api|access|private)[-_. ]?key|e[-_. ]?mail"
    "|authori[sz]ation|credential|cookie|jwt|phone"
)
_SECRET_NAME: Final = re.compile(rf"{_WORDS}|\A(?:pass|pwd|mail|auth)\Z", re.IGNORECASE)
_HARMLESS_NAME: Final = re.compile("iphone|headphone|windows.?phone", re.IGNORECASE)
# For whole batches (RE2): what a secret may be in. JSON may escape the letters of a name.
SUSPICIOUS: Final = (
    rf'(?i){_WORDS}|"(?:pass|pwd|mail|auth)"|[?&](?:pass|pwd|mail|auth)='
    r'|\\u00[2-7]|:(?:\\?/){2}[^/"\s]*@'
)

# A quoted string; the last one may be cut off. The pattern never backtracks.
_QUOTED: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_STRING: Final = re.compile(rf"({_QUOTED})(\s*+:)?", re.DOTALL)
_BRACKET: Final = re.compile(rf"[\[\]{{}}]|{_QUOTED}", re.DOTALL)
_SCALAR: Final = re.compile(rf"{_QUOTED}|[^\s,\]}}]*+", re.DOTALL)
_SPACE: Final = re.compile(r"\s*+")
_DEPTHS: Final = {"{": 1, "[": 1, "}": -1, "]": -1}

# A parameter of an address, which may be escaped for JSON or for another address.
_NAME: Final = rf"(?:[\w.-]{{0,40}}?(?:{_WORDS})[\w.-]{{0,40}}|pass|pwd|mail|auth)"
_PARAMETER: Final = re.compile(
    rf"([?&;]|\\u0026|\\u003f|%26|%3F){_NAME}(?:=|\\u003d|%3D)"
    r'(?:(?!%26)[^&#"\\\s;<>])*+',
    re.IGNORECASE,
)
_FIRST: Final = ("?", "\\u003f", "%3f")
_NO_FIRST: Final = re.compile(r"(\?|\\u003f|%3F)(?:&(?:amp;)?|;|\\u0026|%26)", re.IGNORECASE)
_EMPTY: Final = re.compile(r'\?(?=["#]|\Z)')
_LOGIN: Final = re.compile(r'(:(?:\\?/){2})[^/\s"@?#]{1,500}@')
# In text that is not JSON, such as forms and XML.
_ASSIGNMENT: Final = re.compile(
    rf"(?<![\w.-]){_NAME}[\"']?\s*+[=:]\s*+"
    r"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\s&,;<>"']++)""",
    re.IGNORECASE,
)
# JSON inside strings of JSON, which some producers send.
_NESTED: Final = 4
_COMMA_WITHIN: Final = 64


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret or contact data."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def redact(text: str) -> str:
    """Return JSON without the members and the parameters of addresses that hold secrets."""
    return _redact(text, _NESTED)


def redact_any(text: str) -> str:
    """Return text that may not be JSON without what it calls a secret."""
    return _ASSIGNMENT.sub("", _without_parameters(redact(text)))


def _redact(text: str, nested: int) -> str:
    kept: list[str] = []
    at = 0
    while found := _STRING.search(text, at):
        kept.append(text[at : found.start()])
        at = found.end()
        if found[2] is None:
            kept.append(_clean_string(found[1], nested))
        elif not is_secret(_unquoted(found[1])):
            kept.append(found[0])
        else:
            at = _after(_SPACE, text, _end_of_value(text, _after(_SPACE, text, at)))
            if text.startswith(",", at):
                at = _after(_SPACE, text, at + 1)
            else:
                _drop_comma(kept)
    kept.append(text[at:])
    return "".join(kept)


def _end_of_value(text: str, at: int) -> int:
    """Return where the value that begins at `at` ends, or the end of the text."""
    if not text.startswith(("{", "["), at):
        return _after(_SCALAR, text, at)
    depth = 0
    for found in _BRACKET.finditer(text, at):
        depth += _DEPTHS.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _drop_comma(kept: list[str]) -> None:
    """Drop the comma in front of a removed last member."""
    while kept and not kept[-1].strip():
        kept.pop()
    if kept:
        end = kept[-1][-_COMMA_WITHIN:].rstrip()
        if end.endswith(","):
            kept[-1] = kept[-1][:-_COMMA_WITHIN] + end[:-1]


def _clean_string(quoted: str, nested: int) -> str:
    r"""Return a quoted string without secret parameters, and without secrets in JSON in it."""
    if nested and r"\"" in quoted:
        inner = _unquoted(quoted)
        clean = _redact(inner, nested - 1)
        if clean != inner:
            quoted = json.dumps(clean, ensure_ascii=False)
    return _without_parameters(quoted)


def _without_parameters(text: str) -> str:
    clean, removed = _PARAMETER.subn(_separator, text)
    if removed:
        clean = _EMPTY.sub("", _NO_FIRST.sub(r"\1", clean))
    return _LOGIN.sub(r"\1", clean)


def _separator(parameter: re.Match[str]) -> str:
    return parameter[1] if parameter[1].lower() in _FIRST else ""


def _unquoted(quoted: str) -> str:
    """Return the text of a quoted string; as it is if it is cut off or invalid."""
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        return quoted.strip('"')
