"""What an import of a database would do, found out by reading all of it and writing nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.events.mapping import MISSING_START, Cells, mapping_query
from tautulli_pipeline.imports.comparison import Candidates, Comparison, Outcome
from tautulli_pipeline.source.opening import OpenSource, open_source
from tautulli_pipeline.source.partitions import LAST_GRID_ID, OTHER
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.source.survey import out_of_order

_GRID_IDS: Final = IdRange(1, LAST_GRID_ID)
_ROWS_PER_QUERY: Final = 2048
# What the embedded stream takes, without headers.
_MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024 - 1024

OnRead = Callable[[int, int], None]

_SPELLED: Final = {
    "event_id": "event",
    "correlation_key": "correlation key",
    "rating_key_user_started": "item, user and start",
}


@dataclass(frozen=True)
class Findings:
    """What a database holds and what would become of each of its plays.

    Attributes:
        last_row_id: the play an import would take last.
        rejected_reasons: plays that would become dead letters, by reason.
        errors: plays that cannot be read, of `total_records`.
        unreadable: what cannot be read, by table, as `Damage.facts` gives it.
    """

    source: Path
    tautulli_version: str | None
    missing_columns: tuple[str, ...]
    total_records: int
    last_row_id: int
    first_started_at: datetime | None
    last_started_at: datetime | None
    users: int
    media_types: dict[str, int]
    live: int
    outcome: Outcome
    rejected_reasons: dict[str, int]
    warehouse: Comparison
    errors: int = 0
    unreadable: tuple[dict[str, Any], ...] = ()

    def verdicts(self) -> dict[str, int]:
        """How many plays would come to each end, in words; together they are all plays."""
        duplicates = self.outcome.duplicates.items()
        return {
            "would be imported": self.outcome.new,
            **{f"duplicates, same {_SPELLED[key]}": plays for key, plays in duplicates},
            **{f"rejected, {reason}": plays for reason, plays in self.rejected_reasons.items()},
            **({"unreadable": self.errors} if self.errors else {}),
        }

    def compared_with(self) -> list[str]:
        """Against which table that was found out, in lines."""
        warehouse = self.warehouse
        if not warehouse.compared:
            return [warehouse.reason, "so the plays were compared with each other alone"]
        return [
            f"compared with {warehouse.path}" + f": {warehouse.reason}" * bool(warehouse.reason)
        ]

    @property
    def rejected(self) -> int:
        """Plays that would become dead letters."""
        return sum(self.rejected_reasons.values())

    def facts(self) -> dict[str, Any]:
        """As `validate --json` gives them."""
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
            "new": self.outcome.new,
            "duplicates": self.outcome.duplicates,
            "rejected": self.rejected,
            "rejected_reasons": self.rejected_reasons,
            "warehouse": self.warehouse.facts(),
        }


def validate(
    path: Path,
    snapshots_dir: Path,
    *,
    warehouse: Path,
    server_id: str,
    on_read: OnRead = lambda _done, _total: None,
    salvaging: bool = False,
) -> Findings:
    """Judge every play of the database at `path` as an import would.

    Nothing is left behind: the private copy and all that is worked out from it lie in a
    folder that is deleted. The table at `warehouse` is only read.

    Args:
        path: the database.
        snapshots_dir: where the private copy is made for the time being.
        warehouse: the present table, there or not.
        server_id: goes into the keys.
        on_read: told how many of how many plays are read.
        salvaging: judge what can be read of a damaged file.

    Raises:
        SourceError: there is no readable Tautulli database.
    """
    with open_source(path, snapshots_dir, salvaging=salvaging) as source:
        return judge(source, warehouse=warehouse, server_id=server_id, on_read=on_read)


def judge(
    source: OpenSource,
    *,
    warehouse: Path,
    server_id: str,
    on_read: OnRead = lambda _done, _total: None,
) -> Findings:
    """Judge every play of an open source; see `validate`."""
    with _scratch(source) as connection:
        plays = _Plays(connection)
        with source.naming_damage():
            for rows in _mapped(source, server_id, on_read):
                plays.add(rows)
        comparison = plays.candidates.compare(warehouse)
        return plays.findings(source, comparison)


@contextmanager
def _scratch(source: OpenSource) -> Iterator[duckdb.DuckDBPyConnection]:
    """Tables in memory that spill into the folder of the private copy."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": "256MB",
        "temp_directory": str(source.snapshot.path.with_name("spilled")),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(config=config) as connection:
        yield connection


class _Plays:
    """Facts of the plays read so far."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.candidates = Candidates(connection)
        self._last_row_id = 0
        connection.execute(
            "CREATE TABLE facts (started_at TIMESTAMP, user_id INTEGER, media_type VARCHAR, "
            "live BOOLEAN, reason VARCHAR)"
        )

    def add(self, rows: pa.Table) -> None:
        self.candidates.add(rows)
        self._connection.register("mapped", rows)
        self._connection.execute(
            "INSERT INTO facts SELECT started_at, user_id, media_type, live, reason FROM mapped"
        )
        self._connection.unregister("mapped")
        self._last_row_id = rows["source_row_id"][-1].as_py() or self._last_row_id

    def findings(self, source: OpenSource, comparison: Comparison) -> Findings:
        total, first, last, users, live = self._connection.execute(
            "SELECT count(*), min(started_at) FILTER (has_start), "
            "max(started_at) FILTER (has_start), count(DISTINCT user_id), "
            "count(*) FILTER (live) "
            f"FROM (SELECT *, reason IS DISTINCT FROM '{MISSING_START}' AS has_start FROM facts)"
        ).fetchall()[0]
        damages = source.salvage.damages
        errors = len(source.salvage.unreadable)
        return Findings(
            source=source.snapshot.source,
            tautulli_version=source.schema.tautulli_version,
            missing_columns=source.schema.missing_columns,
            total_records=total + errors,
            last_row_id=self._last_row_id,
            first_started_at=first,
            last_started_at=last,
            users=users,
            media_types=self._counted("media_type"),
            live=live,
            outcome=self.candidates.judge(),
            rejected_reasons=self._counted("reason"),
            warehouse=comparison,
            errors=errors,
            unreadable=tuple(damage.facts() for damage in damages),
        )

    def _counted(self, column: str) -> dict[str, int]:
        """Plays by what the column says, the most frequent first."""
        return dict(
            self._connection.execute(
                f"SELECT {column}, count(*) FROM facts WHERE {column} IS NOT NULL "
                "GROUP BY ALL ORDER BY count(*) DESC, 1"
            ).fetchall()
        )


def _mapped(source: OpenSource, server_id: str, on_read: OnRead) -> Iterator[pa.Table]:
    """Every play, mapped, read as an import reads them and in its order."""
    copy, named = source.snapshot.path, source.snapshot.source
    with source.open_survey() as survey:
        total = survey.count_rows()
    query = _facts_query(source, server_id)
    done = 0
    with open_reader(copy, source.schema, named=named) as reader:
        for batch in reader.stream([_GRID_IDS, *OTHER.ranges], batch_rows=_ROWS_PER_QUERY):
            rows = _judged(batch, query)
            yield rows
            done += rows.num_rows
            on_read(done, total)
    if done != total:
        raise out_of_order(named)


def _judged(batch: pa.RecordBatch, query: str) -> pa.Table:
    # A connection keeps memory of every query of this width until it is closed.
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("batch", batch)
        return connection.execute(query).to_arrow_table()


def _facts_query(source: OpenSource, server_id: str) -> str:
    columns = source.schema.history_columns
    mapping = mapping_query(columns, server_id, max_payload_bytes=_MAX_PAYLOAD_BYTES)
    grouped = "regexp_replace(split_part(reason, ':', 1), '^event of \\d+ bytes', 'event')"
    return f"""
        SELECT source_row_id, event_id, correlation_key, rating_key, user_id, started_at,
            split_part(subject, '.', 3) AS media_type, coalesce(live = '1', false) AS live,
            {grouped} AS reason
        FROM ({mapping}) POSITIONAL JOIN (SELECT {Cells(columns)["live"]} AS live FROM batch)
    """


def _rfc3339(moment: datetime | None) -> str | None:
    return f"{moment.isoformat()}Z" if moment else None
