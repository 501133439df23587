"""Predict what an import of a database would do: read all of it and write nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

from tautulli_pipeline.events.mapping import MISSING_START
from tautulli_pipeline.imports.comparison import Comparison, compare
from tautulli_pipeline.imports.connections import find_message_limit
from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.imports.messages import payload_bytes
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.source.partitions import LAST_GRID_ID, OTHER
from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.source.survey import out_of_order
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, MessageLimit
from tautulli_pipeline.warehouse.audit_words import REASONS_IN_WORDS
from tautulli_pipeline.warehouse.schema import SETTINGS

_GRID_IDS: Final = IdRange(1, LAST_GRID_ID)

OnRead = Callable[[int, int], None]

_PLAYS: Final = """
    CREATE TABLE plays (
        row_id BIGINT, event_id UUID, correlation_key VARCHAR, rating_key VARCHAR,
        guid VARCHAR, user_id INTEGER, started_at TIMESTAMP, media_type VARCHAR, live BOOLEAN,
        reason VARCHAR
    )
"""
_ADD: Final = """
    INSERT INTO plays
    SELECT source_row_id, event_id, correlation_key, rating_key, guid, user_id, started_at,
        split_part(subject, '.', 3), live,
        regexp_replace(split_part(reason, ':', 1), '^event of \\d+ bytes', 'event')
    FROM mapped
"""
_FACTS: Final = f"""
    SELECT count(*), coalesce(arg_max(row_id, rowid), 0), min(started_at) FILTER (has_start),
        max(started_at) FILTER (has_start), count(DISTINCT user_id), count(*) FILTER (live)
    FROM (
        SELECT *, rowid, reason IS DISTINCT FROM '{MISSING_START}' AS has_start FROM plays
    )
"""


@dataclass(frozen=True)
class Findings:
    """The contents of a database and the predicted outcome of its plays.

    Attributes:
        last_row_id: the play that an import would read last.
        duplicates: the number of duplicates, by the first key that matches.
        rejected_reasons: the number of plays that would become dead letters, by reason.
        errors: the number of unreadable plays among `total_records`.
        limit: the largest message that the stream takes.
        default_because: why `limit` is the default; '' if the stream answered.
        unreadable: the unreadable parts, by table, as `Damage.facts` returns them.
    """

    source: Named
    tautulli_version: str | None
    missing_columns: tuple[str, ...]
    total_records: int
    last_row_id: int
    first_started_at: datetime | None
    last_started_at: datetime | None
    users: int
    media_types: dict[str, int]
    live: int
    new: int
    duplicates: dict[str, int]
    rejected_reasons: dict[str, int]
    warehouse: Comparison
    limit: MessageLimit = DEFAULT_MESSAGE_LIMIT
    default_because: str = ""
    errors: int = 0
    unreadable: tuple[dict[str, Any], ...] = ()

    def verdicts(self) -> dict[str, int]:
        """Return the number of plays for each outcome that has any; they add up to all plays."""
        duplicates = self.duplicates.items()
        others = {
            **{f"duplicates, {REASONS_IN_WORDS[key]}": plays for key, plays in duplicates},
            **{f"rejected, {reason}": plays for reason, plays in self.rejected_reasons.items()},
            "unreadable": self.errors,
        }
        counted = {words: plays for words, plays in others.items() if plays}
        return {"would be imported": self.new} | counted

    def largest_event(self) -> str:
        """Describe the largest event that the stream takes."""
        cause = f"set by {self.limit.set_by}"
        if self.default_because:
            cause = f"the default, because {self.default_because}"
        return f"{payload_bytes(self.limit):,} bytes, {cause}"

    def compared_with(self) -> list[str]:
        """Describe the table that the plays were compared with, in lines."""
        warehouse = self.warehouse
        if not warehouse.compared:
            return [warehouse.reason, "so the plays were compared only with each other"]
        return [
            f"compared with {warehouse.path}" + f": {warehouse.reason}" * bool(warehouse.reason)
        ]

    @property
    def rejected(self) -> int:
        """The number of plays that would become dead letters."""
        return sum(self.rejected_reasons.values())

    def facts(self) -> dict[str, Any]:
        """Return the output of `validate --json`."""
        return {
            "source": str(self.source),
            "tautulli_version": self.tautulli_version,
            "missing_columns": list(self.missing_columns),
            "total_records": self.total_records,
            "first_started_at": _rfc3339(self.first_started_at),
            "last_started_at": _rfc3339(self.last_started_at),
            "users": self.users,
            "media_types": self.media_types,
            "live": self.live,
            "new": self.new,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "rejected_reasons": self.rejected_reasons,
            "warehouse": asdict(self.warehouse),
            "event_limit": {
                "bytes": payload_bytes(self.limit),
                "set_by": self.limit.set_by,
                "default_because": self.default_because,
            },
        }


def validate(
    source: OpenSource,
    settings: Settings,
    on_read: OnRead = lambda _done, _total: None,
) -> Findings:
    """Predict the outcome of every play of an open source.

    Nothing is left behind: everything derived from the private copy is in its temporary
    folder. The table and the stream are only read, and need not exist.

    Args:
        source: the source.
        settings: the table, the stream, and the server id that goes into the keys.
        on_read: receives the number of plays read so far and in total.

    Raises:
        SourceError: the source cannot be read.
    """
    # In-memory tables that spill to the folder of the private copy.
    scratch: dict[str, Any] = {
        **SETTINGS,
        "memory_limit": "256MB",
        "temp_directory": str(source.snapshot.path.with_name("spilled")),
        "preserve_insertion_order": False,
    }
    limit, default_because = find_message_limit(settings)
    with duckdb.connect(config=scratch) as connection:
        with source.naming_damage():
            mapper = Mapper(source.schema.history_columns, settings.import_server_id, limit)
            _read_plays(connection, source, mapper, on_read)
        counts, comparison = compare(
            connection, settings.warehouse_path, settings.import_server_id, settings.servers
        )
        ((total, last_row_id, first, last, users, live),) = connection.execute(_FACTS).fetchall()
        errors = len(source.salvage.unreadable)
        return Findings(
            source=source.snapshot.source,
            tautulli_version=source.schema.tautulli_version,
            missing_columns=source.schema.missing_columns,
            total_records=total + errors,
            last_row_id=last_row_id,
            first_started_at=first,
            last_started_at=last,
            users=users,
            media_types=_counted(connection, "media_type"),
            live=live,
            new=counts.pop("new"),
            duplicates=counts,
            rejected_reasons=_counted(connection, "reason"),
            warehouse=comparison,
            limit=limit,
            default_because=default_because,
            errors=errors,
            unreadable=tuple(damage.facts() for damage in source.salvage.damages),
        )


def _read_plays(
    connection: duckdb.DuckDBPyConnection,
    source: OpenSource,
    mapper: Mapper,
    on_read: OnRead,
) -> None:
    """Fill the table `plays` with every play, mapped and ordered as in an import."""
    with source.open_survey() as survey:
        total = survey.count_rows()
    connection.execute(_PLAYS)
    done = 0
    with source.open_reader() as reader:
        batches = reader.stream([_GRID_IDS, *OTHER.ranges])
        for rows in mapper.map(reader.columns, batches):
            connection.register("mapped", rows)
            connection.execute(_ADD)
            done += rows.num_rows
            on_read(done, total)
            release_memory()
    if done != total:
        raise out_of_order(source.path)


def _counted(connection: duckdb.DuckDBPyConnection, column: str) -> dict[str, int]:
    """Count the plays by the value of the column, the most frequent first."""
    return dict(
        connection.execute(
            f"SELECT {column}, count(*) FROM plays WHERE {column} IS NOT NULL "
            "GROUP BY ALL ORDER BY count(*) DESC, 1"
        ).fetchall()
    )


def _rfc3339(moment: datetime | None) -> str | None:
    return f"{moment.isoformat()}Z" if moment else None
