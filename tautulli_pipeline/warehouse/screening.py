"""Screens messages before DuckDB reads them: bounds their size and depth, and removes secrets.

DuckDB's JSON functions need up to a hundred times the memory of a message, and a transaction
that runs out of it may end the database. So what no producer sends on purpose never gets there,
and heavy messages share a transaction with few others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.identity import SOURCE
from tautulli_pipeline.warehouse.redaction import SUSPICIOUS, redact, redact_any

# Subject prefix of our own events, and how their bodies begin.
OWN_SUBJECTS: Final = f"playback.{SOURCE}."
_OWN_BEGINNING: Final = b'{"schema_version":1,"event_id":"'

MAX_OWN_BYTES: Final = 8 * 2**20
MAX_FOREIGN_BYTES: Final = 2**20
MAX_DEPTH: Final = 512
# What is kept of a message that is refused.
BEGINNING_BYTES: Final = 2**14
BEGINNING: Final = "beginning"

NOT_UTF8: Final = "message is not UTF-8"
NOT_JSON: Final = "message is not JSON"
TOO_DEEP: Final = f"message is nested deeper than {MAX_DEPTH} levels"

# The memory that a transaction may need, in bytes of our own small events.
_TRANSACTION_WEIGHT: Final = 32 * 2**20
_SMALL_BYTES: Final = 2**16
_LARGE_FACTOR: Final = 4
# Fields of other producers' events are compared with their columns.
_FOREIGN_FACTOR: Final = 8
_BYTES_PER_VALUE: Final = 8

SCREENED: Final = pa.schema(
    [
        ("sequence", pa.int64()),
        ("subject", pa.string()),
        ("import_id", pa.string()),
        ("message_id", pa.string()),
        # The header with the hash of the content of our own events.
        ("content", pa.string()),
        # The message without secrets; null if it is refused.
        ("body", pa.string()),
        # The reason why it is refused.
        ("refusal", pa.string()),
        # The JSON that a dead letter keeps instead of the body.
        ("record", pa.string()),
        ("weight", pa.int64()),
        ("position", pa.int64()),
    ]
)

_NO_STRUCTURE: Final = bytes(set(range(256)) - set(b"[{,:"))
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


class _Screened(NamedTuple):
    body: str | None = None
    refusal: str | None = None
    record: str | None = None
    weight: int = BEGINNING_BYTES


def screen(messages: pa.Table) -> pa.Table:
    """Return the messages (columns of `MESSAGES`) with the columns of `SCREENED`."""
    bodies = messages["body"]
    sizes = pc.binary_length(bodies)
    own = pc.and_(
        pc.starts_with(messages["subject"], OWN_SUBJECTS), pc.starts_with(bodies, _OWN_BEGINNING)
    )
    trusted = pc.and_(own, pc.less_equal(sizes, _SMALL_BYTES))
    columns = _trusted_columns(bodies, sizes) if pc.all(trusted, min_count=0).as_py() else None
    columns = columns or _screened_columns(bodies, own, trusted)
    position = pa.array(range(len(messages)), pa.int64())
    envelope = messages.drop_columns("body").columns
    return pa.Table.from_arrays([*envelope, *columns, position], schema=SCREENED)


def _trusted_columns(bodies: pa.ChunkedArray, sizes: pa.ChunkedArray) -> list[pa.Array] | None:
    try:
        texts = bodies.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        return None
    nulls = pa.nulls(len(bodies), pa.string())
    return [texts, nulls, nulls, sizes.cast(pa.int64())]


def _screened_columns(
    bodies: pa.ChunkedArray, own: pa.ChunkedArray, trusted: pa.ChunkedArray
) -> list[pa.Array]:
    foreign = pc.if_else(own, pa.scalar(None, pa.binary()), bodies)
    suspicious = pc.match_substring_regex(foreign, SUSPICIOUS)
    rows = zip(*(c.to_pylist() for c in (bodies, own, trusted, suspicious)), strict=True)
    columns = zip(*(_screen(*row) for row in rows), strict=True)
    types = [pa.string(), pa.string(), pa.string(), pa.int64()]
    return [pa.array(values, type_) for values, type_ in zip(columns, types, strict=True)]


def _screen(body: bytes, own: bool, trusted: bool, suspicious: bool | None) -> _Screened:
    structure = b"" if trusted else body.translate(None, _NO_STRUCTURE)
    reason = _refusal(body, structure, MAX_OWN_BYTES if own else MAX_FOREIGN_BYTES)
    if reason is not None:
        return _refused(body, reason)
    text = body.decode()
    if own:
        return _Screened(text, weight=len(body) * (1 if trusted else _LARGE_FACTOR))
    weight = _FOREIGN_FACTOR * (len(body) + _BYTES_PER_VALUE * len(structure))
    if not suspicious:
        return _Screened(text, weight=weight)
    return _Screened(redact(text), None, _record_if_invalid(text), weight)


def _refusal(body: bytes, structure: bytes, limit: int) -> str | None:
    """Return the reason why a message is not parsed, if there is one."""
    if len(body) > limit:
        return f"message of {len(body)} bytes exceeds the limit of {limit}"
    try:
        body.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    if b"\x00" in body[:2]:
        return NOT_JSON
    opened = structure.count(b"[") + structure.count(b"{")
    return TOO_DEEP if opened > MAX_DEPTH and _depth(body) > MAX_DEPTH else None


def _refused(body: bytes, reason: str) -> _Screened:
    """Return a message that is not parsed; a dead letter keeps at least its beginning."""
    beginning = body[:BEGINNING_BYTES].decode(errors="backslashreplace")
    plain = beginning.replace("\x00", "")  # as UTF-16 has in every second byte
    if pc.match_substring_regex(pa.scalar(plain), SUSPICIOUS).as_py():
        beginning = redact_any(plain)
    if len(body) <= BEGINNING_BYTES:
        return _Screened(refusal=reason, record=_json(beginning))
    record = {BEGINNING: beginning, "size_bytes": len(body)}
    return _Screened(refusal=reason, record=_json(record))


def refuse(screened: pa.Table, reasons: Sequence[str | None]) -> pa.Table:
    """Return screened messages with those refused that have a reason."""
    rows = [
        row
        if reason is None or row["body"] is None
        else row | _refused(row["body"].encode(), reason)._asdict()
        for row, reason in zip(screened.to_pylist(), reasons, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCREENED)


def is_beginning(record: str) -> bool:
    """Whether the record of a dead letter is only the beginning of a message."""
    return record.startswith(f'{{"{BEGINNING}":') and record.endswith("}")


def _record_if_invalid(text: str) -> str | None:
    """Return what is kept of a suspicious message if it turns out not to be JSON."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return _json(redact_any(text))
    return None


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _depth(body: bytes) -> int:
    """Return how deep the brackets of a body are nested outside of strings."""
    marks = np.frombuffer(_STRINGS.sub(b"", body), np.uint8)
    opened = (marks == ord("[")) | (marks == ord("{"))
    closed = (marks == ord("]")) | (marks == ord("}"))
    return int(np.cumsum(opened.astype(np.int32) - closed).max(initial=0))


def portions(screened: pa.Table, most_rows: int) -> Iterator[pa.Table]:
    """Cut messages into parts, each small and light enough for one transaction."""
    total = pc.sum(screened["weight"], min_count=0).as_py()
    if len(screened) <= most_rows and total <= _TRANSACTION_WEIGHT:
        if len(screened):
            yield screened
        return
    first = weight = 0
    for place, added in enumerate(screened["weight"].to_pylist()):
        if place > first and (place - first == most_rows or weight + added > _TRANSACTION_WEIGHT):
            yield renumbered(screened[first:place])
            first, weight = place, 0
        weight += added
    if first < len(screened):
        yield renumbered(screened[first:])


def renumbered(part: pa.Table) -> pa.Table:
    """Return a part of a screened batch with positions that begin at 0."""
    position = pa.array(range(len(part)), pa.int64())
    return part.set_column(part.schema.get_field_index("position"), "position", position)
