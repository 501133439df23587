"""What an import and its consumer process say to each other: one JSON object a line.

The importer writes orders to the consumer's standard input and reads replies from its
standard output. The end of the input means that the importer is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Annotated, Final, Literal

import orjson
from pydantic import Field, TypeAdapter

from tautulli_pipeline.imports.record import Fates
from tautulli_pipeline.warehouse.arrivals import Arrivals


@dataclass(frozen=True)
class Begin:
    """Consume for this import.

    Attributes:
        wait_seconds: how long to wait for a program that holds the warehouse.
    """

    import_id: str
    wait_seconds: float
    kind: Literal["begin"] = "begin"


@dataclass(frozen=True)
class Cover:
    """Count what is settled of these partitions."""

    partitions: list[str]
    kind: Literal["cover"] = "cover"


@dataclass(frozen=True)
class Drain:
    """Say when everything up to this message is consumed and settled."""

    last_sequence: int
    kind: Literal["drain"] = "drain"


@dataclass(frozen=True)
class Finish:
    """End after the current batch.

    Attributes:
        since: tell what came into the warehouse since then, in UTC without a zone; None
            where nobody wants to know.
    """

    since: datetime | None
    kind: Literal["finish"] = "finish"


@dataclass(frozen=True)
class Ready:
    """The warehouse is open and the stream is connected."""

    warehouse_id: str
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True)
class Waiting:
    """The consumer waits for something."""

    words: str
    kind: Literal["waiting"] = "waiting"


@dataclass(frozen=True)
class Progress:
    """What is settled so far."""

    fates: Fates
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True)
class Drained:
    """Everything up to the message of the last order is consumed and settled.

    Attributes:
        unsettled: ids of rows that were published but arrived nowhere, by partition.
    """

    fates: Fates
    unsettled: dict[str, list[int]] = field(default_factory=dict)
    kind: Literal["drained"] = "drained"


@dataclass(frozen=True)
class Finished:
    """The consumer's last words."""

    arrivals: Arrivals
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True)
class Failed:
    """The consumer's last words where something went wrong."""

    exit_code: int
    message: str
    hint: str
    traceback: str = ""
    kind: Literal["failed"] = "failed"


Order = Begin | Cover | Drain | Finish
Reply = Ready | Waiting | Progress | Drained | Finished | Failed

_ORDERS: Final[TypeAdapter[Order]] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])
_REPLIES: Final[TypeAdapter[Reply]] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])


def parse_order(line: bytes) -> Order:
    """What the importer wants."""
    return _ORDERS.validate_json(line)


def parse_reply(line: bytes) -> Reply:
    """What the consumer says."""
    return _REPLIES.validate_json(line)


def send(stream: IO[bytes], message: Order | Reply) -> None:
    """Write one message.

    A reader that is gone is no fault here: its own last words, or the end of what it
    writes, tell that it is.
    """
    try:
        stream.write(orjson.dumps(message) + b"\n")
        stream.flush()
    except BrokenPipeError:
        pass
