"""Plan an import: cover missing and stale partitions, and those it has finished itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tautulli_pipeline.imports.messages import PartitionWork
from tautulli_pipeline.source.survey import PartitionContent

# Ends the version of a partition that was published from an older file than the one that spoke
# last, so that what it says about stored plays did not count.
_OLDER: Final = "-older"


@dataclass(frozen=True)
class Finished:
    """The latest publication of a partition.

    Attributes:
        import_id: the import that published it.
        version: identifies its destination, the content of its rows, and whether it came from an
            older file.
    """

    import_id: str
    version: str

    @property
    def place(self) -> str:
        """Where its events went; see `Destination`."""
        return self.version.rpartition(":")[0]

    @property
    def content(self) -> str:
        """The digest of its rows."""
        return self.version.rpartition(":")[2].removesuffix(_OLDER)

    def moved_to(self, place: str) -> Finished:
        """Return the same publication to another place."""
        return replace(self, version=f"{place}:{self.version.rpartition(':')[2]}")

    def __str__(self) -> str:
        """Return the text that is stored in the record of the partition."""
        return f"{self.import_id}:{self.version}"

    @classmethod
    def parse(cls, text: str) -> Finished:
        """Parse the text that `str` returns."""
        import_id, version = text.split(":", 1)
        return cls(import_id, version)


@dataclass(frozen=True)
class Destination:
    """Where events go. A partition finished for one destination is not finished for another."""

    server_id: str
    warehouse_id: str
    stream_id: str

    @property
    def place(self) -> str:
        """An identifier of this destination."""
        parts = (self.server_id, self.warehouse_id, self.stream_id)
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()

    def version(self, content: PartitionContent) -> str:
        """Return an identifier of this destination and the content of the partition."""
        return f"{self.place}:{content.digest}"


@dataclass(frozen=True)
class Plan:
    """The work of one import.

    Attributes:
        work: the partitions to publish, in key order.
        contents: each partition of the source, by key.
        versions: the current version of each partition.
        covered: the partitions of this import, including those that an earlier attempt finished.
        current: the partitions that are finished and have not changed since.
    """

    work: tuple[PartitionWork, ...]
    contents: Mapping[str, PartitionContent]
    versions: Mapping[str, str]
    covered: frozenset[str]
    current: frozenset[str]

    @property
    def total_records(self) -> int:
        """The number of rows in all partitions that the import covers."""
        return self._rows(self.covered)

    @property
    def unchanged(self) -> int:
        """The number of rows in finished partitions that the import does not cover."""
        return self._rows(self.current - self.covered)

    @property
    def pending(self) -> int:
        """The number of rows that are not imported yet and that the import does not cover."""
        return self._rows(self.contents.keys() - self.covered - self.current)

    def _rows(self, keys: Iterable[str]) -> int:
        return sum(self.contents[key].rows for key in keys)

    def again(self, unsettled: Mapping[str, Sequence[int]]) -> tuple[PartitionWork, ...]:
        """Return the work that publishes lost rows again.

        Args:
            unsettled: ids by partition; partitions that the source no longer has are skipped.
        """
        # New to layer 1, regardless of earlier attempts.
        attempt = time.time_ns() // 1_000_000
        return tuple(
            PartitionWork(found.partition, frozenset(ids), attempt)
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
    begun: Container[str] = (),
    is_older: bool = False,
) -> Plan:
    """Compare the partitions of the source with the finished ones.

    What an older file says about stored plays does not count. So what is published from it is due
    once more when the file is the newest again, for example after the next play.

    Args:
        contents: the partitions of the source, in key order.
        finished: the latest publication of each partition to this destination.
        destination: where this import sends events.
        import_id: this import; it also covers what it finished in an earlier attempt.
        fresh: cover every partition, including those that another import finished.
        chosen: publish exactly these partitions, finished or not.
        begun: partitions of which a part may have been published since they were finished, so
            that they are due whatever they contain now.
        is_older: whether a file with a newer play was imported before.
    """
    found, versions, work = {}, {}, []
    covered, current = set(), set()
    for content in contents:
        key = content.key
        found[key] = content
        version, last = destination.version(content), finished.get(key)
        if is_older and not (last is not None and last.version == version):
            version += _OLDER
        versions[key] = version
        is_current = last is not None and last.version == version and key not in begun
        is_own = last is not None and last.import_id == import_id
        is_outstanding = not is_current or (fresh and not is_own)
        is_due = is_outstanding if chosen is None else key in chosen
        if is_due:
            has_changed = last is not None and not is_current
            work.append(PartitionWork(content.partition, has_changed=has_changed))
        if is_due or (is_own and is_current):
            covered.add(key)
        if is_current:
            current.add(key)
    return Plan(tuple(work), found, versions, frozenset(covered), frozenset(current))
