"""Recognizes a known server under a new id, before its plays are stored a second time."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Final

import pyarrow.compute as pc

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline.imports.consumer_protocol import Ready
from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.source.reader import IdRange

_PLACES: Final = 16
_IDS_PER_PLACE: Final = 64
# What event ids and the validity of a row depend on.
_COLUMNS: Final = frozenset({"id", "session_key", "started", "user_id", "title"})


def sample_event_ids(source: OpenSource, server_id: str) -> list[str]:
    """Return the event ids of plays from all parts of a source.

    Raises:
        SourceError: the source cannot be read.
    """
    narrow = source.schema.only(_COLUMNS)
    with source.naming_damage(), source.open_reader(narrow) as reader:
        with source.open_survey() as survey:
            ends = survey.id_range()
        if ends is None:
            return []
        mapper = Mapper(narrow.history_columns, server_id)
        found = [
            rows.filter(pc.is_null(rows["reason"]))["event_id"].to_pylist()
            for rows in mapper.map(reader.columns, reader.stream(_places(*ends)))
        ]
    return sorted(set(chain.from_iterable(found)))


def _places(first: int, last: int) -> list[IdRange]:
    """Return narrow ranges of ids, evenly spread from the first to the last."""
    width = max(_IDS_PER_PLACE, (last - first + 1) // _PLACES)
    starts = range(first, last + 1, width)
    return [IdRange(start, min(start + _IDS_PER_PLACE - 1, last)) for start in starts]


def require_new_plays(
    ready: Ready, server_id: str, servers: Servers, listed: Collection[str] = ()
) -> None:
    """Refuse a new server whose plays are stored already under the id of another one.

    `listed` are the servers of the configuration file, if it lists any.

    Raises:
        ConfigurationError: most of the sample is stored under another id.
    """
    current = servers.current(server_id)
    if current in map(servers.current, ready.servers):
        return
    other = max(ready.holders, key=lambda holder: ready.holders[holder], default=None)
    if other is None or other == current or 2 * ready.holders[other] <= ready.sampled:
        return
    raise ConfigurationError(
        f"cannot import as the server {server_id!r}: {ready.holders[other]:,} of "
        f"{ready.sampled:,} plays that were compared are stored as plays of {other!r}",
        hint=_way_out(server_id, other, listed),
    )


def _way_out(server_id: str, other: str, listed: Collection[str]) -> str:
    if other in listed:
        return f"check the sources of {other} and {server_id}: both have the history of {other}"
    if listed:
        return (
            f'if this server had the id {other!r}, add replaces = ["{other}"] to {server_id} in '
            "pipeline.toml; otherwise check its source"
        )
    return (
        f"import it with IMPORT_SERVER_ID={other}, or, if the id has changed, "
        f'set IMPORT_SERVER_REPLACES={other} (in pipeline.toml: replaces = ["{other}"])'
    )
