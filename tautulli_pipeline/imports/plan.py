"""Which partitions an import covers: those missing or stale, and its own finished ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tautulli_pipeline.imports.pieces import PartitionWork
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
        rows: rows of each partition of the source.
        versions: the version each of them has now.
        contents: each of them as the source has it now.
        covered: the partitions of the import, finished by it in an earlier attempt or not.
    """

    work: tuple[PartitionWork, ...]
    rows: Mapping[str, int]
    versions: Mapping[str, str]
    contents: Mapping[str, PartitionContent]
    covered: frozenset[str]

    @property
    def total_records(self) -> int:
        """Rows of all partitions the import covers."""
        return sum(self.rows[key] for key in self.covered)

    @property
    def unchanged(self) -> int:
        """Rows of partitions finished before it and still the same."""
        return sum(self.rows.values()) - self.total_records


def make_plan(
    contents: Iterable[PartitionContent],
    finished: Mapping[str, Finished],
    destination: Destination,
    import_id: str,
    *,
    fresh: bool,
) -> Plan:
    """Compare what the source holds with what is finished.

    Args:
        contents: the source's partitions, in key order.
        finished: what is remembered of each published partition.
        destination: where this import brings events.
        import_id: partitions that this import finished in an earlier attempt stay its own.
        fresh: cover every partition, finished by another import or not.
    """
    work, rows, versions, covered = [], {}, {}, []
    found = {}
    for content in contents:
        found[content.key] = content
        rows[content.key] = content.rows
        versions[content.key] = version = destination.version(content)
        last = finished.get(content.key)
        current = last is not None and last.version == version
        own = last is not None and last.import_id == import_id
        if not current or (fresh and not own):
            work.append(PartitionWork(content.key, content.rows))
        if own or fresh or not current:
            covered.append(content.key)
    return Plan(tuple(work), rows, versions, found, frozenset(covered))
