"""Which partitions an import covers: those missing or stale, and its own finished ones."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tautulli_pipeline.imports.messages import PartitionWork
from tautulli_pipeline.source.survey import PartitionContent


@dataclass(frozen=True)
class Finished:
    """The latest publication of a partition.

    Attributes:
        import_id: the import that published it.
        version: names the warehouse and stream it went to, and its rows' content.
    """

    import_id: str
    version: str

    @property
    def content(self) -> str:
        """The digest its rows had."""
        return self.version.rpartition(":")[2]

    def __str__(self) -> str:
        """How it is written into the partition's record."""
        return f"{self.import_id}:{self.version}"

    @classmethod
    def parse(cls, text: str) -> Finished:
        """Read what `str` wrote."""
        import_id, version = text.split(":", 1)
        return cls(import_id, version)


@dataclass(frozen=True)
class Destination:
    """Where events go. A partition finished for one destination is not for another."""

    server_id: str
    warehouse_id: str
    stream_id: str

    def version(self, content: PartitionContent) -> str:
        """Names the partition's content together with where it was brought."""
        parts = (self.server_id, self.warehouse_id, self.stream_id)
        place = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
        return f"{place}:{content.digest}"


@dataclass(frozen=True)
class Plan:
    """What one import has to do.

    Attributes:
        work: the partitions to publish, in key order.
        contents: each partition of the source, by key.
        versions: the version each of them has now.
        covered: the partitions of the import, finished by it in an earlier attempt or not.
        current: the partitions that are finished and have not changed since.
    """

    work: tuple[PartitionWork, ...]
    contents: Mapping[str, PartitionContent]
    versions: Mapping[str, str]
    covered: frozenset[str]
    current: frozenset[str]

    @property
    def total_records(self) -> int:
        """Rows of all partitions the import covers."""
        return self._rows(self.covered)

    @property
    def unchanged(self) -> int:
        """Rows of finished partitions that the import does not cover."""
        return self._rows(self.current - self.covered)

    @property
    def pending(self) -> int:
        """Rows that are not imported yet and that the import does not cover."""
        return self._rows(self.contents.keys() - self.covered - self.current)

    def _rows(self, keys: Iterable[str]) -> int:
        return sum(self.contents[key].rows for key in keys)

    def again(self, unsettled: Mapping[str, Sequence[int]]) -> tuple[PartitionWork, ...]:
        """Work that publishes rows again that arrived nowhere.

        Args:
            unsettled: ids by partition; rows that the source no longer has are left out.
        """
        # New to layer 1, whichever attempts there were before.
        attempt = time.time_ns() // 1_000_000
        return tuple(
            PartitionWork(found.partition, found.rows, frozenset(ids), attempt)
            for key, ids in sorted(unsettled.items())
            if (found := self.contents.get(key)) is not None
        )


def make_plan(
    contents: Iterable[PartitionContent],
    finished: Mapping[str, Finished],
    destination: Destination,
    import_id: str,
    *,
    fresh: bool,
    chosen: Container[str] | None = None,
) -> Plan:
    """Compare what the source holds with what is finished.

    Args:
        contents: the source's partitions, in key order.
        finished: what is remembered of each published partition.
        destination: where this import sends events.
        import_id: partitions that this import finished in an earlier attempt stay its own.
        fresh: cover every partition, also those that another import finished.
        chosen: publish exactly these partitions, finished or not.
    """
    found, versions, work = {}, {}, []
    covered, current = set(), set()
    for content in contents:
        key = content.key
        found[key] = content
        versions[key] = destination.version(content)
        last = finished.get(key)
        is_current = last is not None and last.version == versions[key]
        is_own = last is not None and last.import_id == import_id
        is_outstanding = not is_current or (fresh and not is_own)
        is_due = is_outstanding if chosen is None else key in chosen
        if is_due:
            work.append(PartitionWork(content.partition, content.rows))
        if is_due or (is_own and is_current):
            covered.add(key)
        if is_current:
            current.add(key)
    return Plan(tuple(work), found, versions, frozenset(covered), frozenset(current))
