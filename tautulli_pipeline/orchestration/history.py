"""Partitions of `session_history` and `playback_stream` in Dagster's storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Final

import dagster as dg

from tautulli_pipeline.imports.known_warehouse import KnownWarehouse
from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import ONLY, Names
from tautulli_pipeline.orchestration.run_tables import (
    history_metadata,
    stream_metadata,
)
from tautulli_pipeline.orchestration.workers import fail_orphaned_runs
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.partitions import Grid, Partition
from tautulli_pipeline.source.survey import PartitionContent

DATA_VERSION: Final = "dagster/data_version"
_PAGE: Final = 1000
_SEPARATOR: Final = " "
# Servers, warehouses and streams for which one partition is remembered.
_MOST_PLACES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1)
# When the progress of a server was forgotten, among the cursors of Dagster's storage.
_FORGOTTEN: Final = "tautulli_pipeline/forgotten/"

LogEvent = Callable[[dg.AssetMaterialization], None]


class DagsterHistory:
    """A `PartitionHistory` that is kept in Dagster's storage.

    Args:
        instance: the Dagster instance that stores it.
        log_event: records an event in the current run; by default, outside of runs.
        names: of the server.
        elsewhere: other names under which partitions of this server may be recorded, because
            the configuration file or the id of the server is new; they are carried over.

    Attributes:
        published: the partitions recorded through this object.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        log_event: LogEvent | None = None,
        names: Names = ONLY,
        elsewhere: Sequence[Names] = (),
    ) -> None:
        self._instance = instance
        self._names = names
        self._elsewhere = elsewhere
        self._log_event = log_event or instance.report_runless_asset_event
        self.published: set[Partition] = set()
        # None until it is read. The object that records may not be the one that was planned with.
        self._finished: dict[str, list[Finished]] | None = None
        self._carried: dict[str, str] = {}

    def grid(self) -> Grid | None:
        """Return the grid of this server; None before its first import."""
        for names in (self._names, *self._recorded_elsewhere()):
            shown = self._instance.get_dynamic_partitions(names.partitions)
            # If none is shown, the source has lost its plays, or a process was killed in between.
            recorded = () if shown else sorted(self._data_versions(names.stream_key))
            grids = map(_grid_of, (*shown, *recorded))
            if (grid := next((grid for grid in grids if grid is not None), None)) is not None:
                return grid
        return None

    def finished(
        self, place: str | None = None, earlier: Collection[str] = ()
    ) -> dict[str, Finished]:
        """Return every finished partition of a place, by default the latest publication of each.

        A server, its warehouse and its stream are one place; the record of a partition lists its
        publications to each place, the latest first.

        Args:
            place: the place.
            earlier: places that count as this one.
        """
        moved = dict.fromkeys(earlier, place)
        self._finished = self._read_finished(moved)
        if place is not None:
            self._carry_over(place, moved)
        found = {}
        for key, publications in self._publications().items():
            to_place = (one for one in publications if place in {None, one.place})
            if (first := next(to_place, None)) is not None:
                found[key] = first
        return found

    def _read_finished(self, moved: Mapping[str, str | None]) -> dict[str, list[Finished]]:
        versions = self._data_versions(self._names.stream_key)
        return {key: _parse_all(text, moved) for key, text in versions.items()}

    def _publications(self) -> dict[str, list[Finished]]:
        """Return the publications of each partition to every place, the latest first."""
        if self._finished is None:
            self._finished = self._read_finished({})
        return self._finished

    def _carry_over(self, place: str, moved: Mapping[str, str | None]) -> None:
        """Add the partitions of this place that are only recorded under other names."""
        for names in self._recorded_elsewhere():
            contents = self._data_versions(names.history_key)
            for key, text in self._data_versions(names.stream_key).items():
                known = [one for one in _parse_all(text, moved) if one.place == place]
                own = self._publications().get(key, [])
                if known and all(one.place != place for one in own):
                    self._publications()[key] = [*known, *own]
                    self._carried[key] = contents.get(key, known[0].content)

    def _recorded_elsewhere(self) -> list[Names]:
        """Return the other names with records since the progress was last forgotten."""
        return [names for names in self._elsewhere if self._is_newer_than_reset(names)]

    def _is_newer_than_reset(self, names: Names) -> bool:
        event = self._instance.get_latest_materialization_event(names.stream_key)
        mark = f"{_FORGOTTEN}{self._names.server}"
        forgotten = self._instance.daemon_cursor_storage.get_cursor_values({mark}).get(mark, "0")
        return event is not None and event.timestamp > float(forgotten)

    def contents(self) -> dict[str, str]:
        """Return the latest content digest of each partition of `session_history`."""
        return self._data_versions(self._names.history_key)

    def _data_versions(self, asset: dg.AssetKey) -> dict[str, str]:
        storage = self._instance.event_log_storage
        tags: Mapping[str, Mapping[str, str]] = storage.get_latest_tags_by_partition(
            asset, dg.DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[DATA_VERSION]
        )
        return {key: values[DATA_VERSION] for key, values in tags.items() if DATA_VERSION in values}

    def shown(self) -> Sequence[str]:
        """Return the partitions that Dagster lists."""
        return self._instance.get_dynamic_partitions(self._names.partitions)

    def show(self, keys: Iterable[str], place: str | None = None) -> None:
        """Show exactly these partitions of a place in Dagster; records of others are kept.

        Dagster lists partitions, and resolves partition ranges, in the order in which they were
        added. Partitions that sort after a new one are therefore deleted and added again.
        """
        known = self.shown()
        wanted = {*keys, *(key for key in known if place and self._is_of_another(key, place))}
        kept, ordered = [key for key in known if key in wanted], sorted(wanted)
        pairs = zip(kept, ordered, strict=False)
        unchanged = {key for key, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)}
        self._delete(key for key in known if key not in unchanged)
        self._instance.add_dynamic_partitions(self._names.partitions, ordered)
        for key in sorted(wanted & self._carried.keys()):
            # Outside of the run: it has published none of them.
            self._record(self._instance.report_runless_asset_event, key, self._carried.pop(key))

    def _is_of_another(self, key: str, place: str) -> bool:
        publications = self._publications().get(key, [])
        return bool(publications) and all(one.place != place for one in publications)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._instance.delete_dynamic_partition(self._names.partitions, key)

    def forget(self) -> int:
        """Delete every partition and its records; return the number of partitions.

        The records are deleted first: if this is interrupted, the remaining partitions are due.
        """
        mark = f"{_FORGOTTEN}{self._names.server}"
        self._instance.daemon_cursor_storage.set_cursor_values({mark: str(time.time())})
        self._instance.wipe_assets([self._names.history_key, self._names.stream_key])
        keys = self.shown()
        self._delete(keys)
        return len(keys)

    def record(self, receipt: Receipt, content: PartitionContent, finished: Finished) -> None:
        """Record a published partition of both assets."""
        known = self._publications().get(content.key, [])
        others = [one for one in known if one.place != finished.place][: _MOST_PLACES - 1]
        self._publications()[content.key] = [finished, *others]
        # A partition that is published again, because events were lost, counts once.
        self.published.add(content.partition)
        self._record(
            self._log_event,
            content.key,
            content.digest,
            history_metadata(receipt, content),
            stream_metadata(receipt, content),
        )

    def _record(
        self,
        log_event: LogEvent,
        key: str,
        digest: str,
        of_history: Mapping[str, Any] | None = None,
        of_stream: Mapping[str, Any] | None = None,
    ) -> None:
        versions = {
            self._names.history_key: (digest, of_history),
            self._names.stream_key: (
                _SEPARATOR.join(map(str, self._publications()[key])),
                of_stream,
            ),
        }
        for asset, (version, metadata) in versions.items():
            log_event(
                dg.AssetMaterialization(
                    asset, partition=key, metadata=metadata, tags={DATA_VERSION: version}
                )
            )


def history_of(
    instance: dg.DagsterInstance, settings: Settings, log_event: LogEvent | None = None
) -> DagsterHistory:
    """Return the partitions of the server that the settings are of."""
    names, ids = Names(settings.server), settings.own_ids
    other = Names("" if settings.server else settings.import_server_id)
    elsewhere = [other] if _may_be_known(settings) else []
    elsewhere += [Names(old) for old in ids if old not in {names.server, other.server}]
    return DagsterHistory(instance, log_event, names, elsewhere)


def _may_be_known(settings: Settings) -> bool:
    """Whether plays of this server may be in the warehouse already."""
    known = {settings.servers.current(server) for server in KnownWarehouse(settings).servers}
    return not known or settings.import_server_id in known


def _parse_all(text: str, moved: Mapping[str, str | None]) -> list[Finished]:
    """Parse the publications of a partition; those to an earlier place are to the current one."""
    found = [Finished.parse(one) for one in text.split(_SEPARATOR) if ":" in one]
    return [one.moved_to(new) if (new := moved.get(one.place)) else one for one in found]


def _grid_of(key: str) -> Grid | None:
    try:
        return Partition.parse(key).grid
    except ValueError:
        return None  # a partition added by hand


def last_materialized_at(instance: dg.DagsterInstance) -> datetime:
    """Return when `playback_events` was last materialized, as a naive UTC time."""
    event = instance.get_latest_materialization_event(TABLE_KEY)
    return _EPOCH + timedelta(seconds=event.timestamp) if event else _EPOCH


def published_before(
    instance: dg.DagsterInstance, run: dg.DagsterRun, names: Names = ONLY
) -> set[str]:
    """Return the partitions that earlier attempts of `run` have already published.

    A new run publishes the requested partitions again, even if they are finished.
    """
    if run.root_run_id is None:
        return set()
    family = instance.get_run_group(run.run_id)
    members = {member.run_id: member for member in (family[1] if family else ())}
    root = instance.get_run_record_by_id(run.root_run_id)
    parent = members.get(run.parent_run_id or "")
    if root is None or parent is None or parent.status is dg.DagsterRunStatus.SUCCESS:
        return set()
    wanted = dg.AssetRecordsFilter(
        asset_key=names.stream_key, after_timestamp=root.create_timestamp.timestamp()
    )
    published: set[str] = set()
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        published |= {r.partition_key or "" for r in page.records if r.run_id in members}
        if not page.has_more:
            return published
        cursor = page.cursor


def forget_history(settings: Settings) -> int:
    """Delete every partition in a data directory's storage; return the number of partitions.

    If the settings are of one server of the configuration file, only its partitions are deleted.
    """
    if not settings.layout.run_history.is_dir():  # opening an instance would create it
        return 0
    with open_instance(settings.data_dir) as instance:
        fail_orphaned_runs(instance)
        if settings.server:
            return history_of(instance, settings).forget()
        return sum(DagsterHistory(instance, names=one).forget() for one in _all_names(instance))


def _all_names(instance: dg.DagsterInstance) -> list[Names]:
    """Return the names of every server that has records, also of removed ones."""
    name = ONLY.stream_key.path[-1]
    servers = {key.path[0] for key in instance.get_asset_keys() if key.path[1:] == [name]}
    return [ONLY, *map(Names, sorted(servers))]
