"""The protocol between an import and its consumer process: one JSON object per line.

The import writes orders to the consumer's standard input and reads replies from its
standard output. The end of the input means that the import is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Final, get_args

import orjson
from pydantic import TypeAdapter

from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline.warehouse.server_list import Names


@dataclass(frozen=True)
class Begin:
    """Consume for this import, once no other program holds the warehouse.

    Attributes:
        sample: event ids of the source; `Ready` says which servers have them.
    """

    import_id: str
    sample: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cover:
    """Count the settled rows of these partitions only."""

    partitions: list[str]


@dataclass(frozen=True)
class Name:
    """Store the names of users and libraries, unless a newer file has spoken."""

    names: Names


@dataclass(frozen=True)
class Drain:
    """Report when everything up to this message is consumed and settled."""

    last_sequence: int


@dataclass(frozen=True)
class Finish:
    """End after the current batch.

    Attributes:
        since: report what the warehouse received since then, in UTC without a zone; None
            for no report.
    """

    since: datetime | None


@dataclass(frozen=True)
class Ready:
    """The warehouse is open and the stream is connected.

    Attributes:
        servers: the servers whose plays were imported, the first one first.
        sampled: the number of event ids in the sample.
        holders: how many of them are stored, by current server id.
        newest: the newest start of a play in the files imported so far, in Unix seconds, by
            current server id.
    """

    warehouse_id: str
    servers: list[str] = field(default_factory=list)
    sampled: int = 0
    holders: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """The consumer is waiting for something."""

    words: str


@dataclass(frozen=True)
class Held:
    """Another program has the warehouse open; sent at each attempt to open it."""

    message: str
    hint: str


@dataclass(frozen=True)
class Upgrading:
    """The warehouse is being upgraded; sent after each part of it.

    Attributes:
        done: the rows that are upgraded.
        total: all rows to upgrade.
    """

    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """The rows that are settled so far."""

    outcomes: Outcomes


@dataclass(frozen=True)
class Drained:
    """Everything up to the message of the last `Drain` is consumed and settled.

    Attributes:
        unsettled: ids of rows that were published but never arrived, by partition.
    """

    outcomes: Outcomes
    unsettled: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The last reply of a consumer that succeeded."""

    arrivals: Arrivals


@dataclass(frozen=True)
class Failed:
    """The last reply of a consumer that failed."""

    exit_code: int
    message: str
    hint: str
    traceback: str = ""


Order = Begin | Cover | Name | Drain | Finish
Reply = Ready | Waiting | Held | Upgrading | Progress | Drained | Finished | Failed

_KINDS: Final[dict[str, TypeAdapter[Any]]] = {
    kind.__name__.lower(): TypeAdapter(kind) for kind in (*get_args(Order), *get_args(Reply))
}


def parse(line: bytes) -> Order | Reply:
    """Parse one line."""
    fields = orjson.loads(line)
    message: Order | Reply = _KINDS[fields.pop("kind")].validate_python(fields)
    return message


def send(stream: IO[bytes], message: Order | Reply) -> None:
    """Write one message.

    A reader that is gone is not an error here: its last reply, or the end of its output,
    shows that it is gone.
    """
    fields = {"kind": type(message).__name__.lower(), **vars(message)}
    try:
        stream.write(orjson.dumps(fields) + b"\n")
        stream.flush()
    except BrokenPipeError:
        pass
