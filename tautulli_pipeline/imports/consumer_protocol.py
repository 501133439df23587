"""What an import and its consumer process say to each other: one JSON object a line.

The importer writes orders to the consumer's standard input and reads replies from its
standard output. The end of the input means that the importer is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Final, get_args

import orjson
from pydantic import TypeAdapter

from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.warehouse.arrivals import Arrivals


@dataclass(frozen=True)
class Begin:
    """Consume for this import.

    Attributes:
        wait_seconds: how long to wait for a program that holds the warehouse.
    """

    import_id: str
    wait_seconds: float


@dataclass(frozen=True)
class Cover:
    """Count what is settled of these partitions."""

    partitions: list[str]


@dataclass(frozen=True)
class Drain:
    """Say when everything up to this message is consumed and settled."""

    last_sequence: int


@dataclass(frozen=True)
class Finish:
    """End after the current batch.

    Attributes:
        since: tell what came into the warehouse since then, in UTC without a zone; None
            where nobody wants to know.
    """

    since: datetime | None


@dataclass(frozen=True)
class Ready:
    """The warehouse is open and the stream is connected."""

    warehouse_id: str


@dataclass(frozen=True)
class Waiting:
    """The consumer waits for something."""

    words: str


@dataclass(frozen=True)
class Progress:
    """What is settled so far."""

    outcomes: Outcomes


@dataclass(frozen=True)
class Drained:
    """Everything up to the message of the last order is consumed and settled.

    Attributes:
        unsettled: ids of rows that were published but arrived nowhere, by partition.
    """

    outcomes: Outcomes
    unsettled: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The consumer's last words."""

    arrivals: Arrivals


@dataclass(frozen=True)
class Failed:
    """The consumer's last words where something went wrong."""

    exit_code: int
    message: str
    hint: str
    traceback: str = ""


Order = Begin | Cover | Drain | Finish
Reply = Ready | Waiting | Progress | Drained | Finished | Failed

_KINDS: Final[dict[str, TypeAdapter[Any]]] = {
    kind.__name__.lower(): TypeAdapter(kind) for kind in (*get_args(Order), *get_args(Reply))
}


def parse(line: bytes) -> Order | Reply:
    """The message of one line."""
    fields = orjson.loads(line)
    message: Order | Reply = _KINDS[fields.pop("kind")].validate_python(fields)
    return message


def send(stream: IO[bytes], message: Order | Reply) -> None:
    """Write one message.

    A reader that is gone is no fault here: its own last words, or the end of what it
    writes, tell that it is.
    """
    fields = {"kind": type(message).__name__.lower(), **vars(message)}
    try:
        stream.write(orjson.dumps(fields) + b"\n")
        stream.flush()
    except BrokenPipeError:
        pass
