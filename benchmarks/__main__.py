"""`python -m benchmarks`: run all measurements and write the results."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.suite import Extent, Suite

_RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    """Parse the options and run the suite."""
    options = _parser().parse_args()
    peers = not options.without_peers
    extent = Extent(
        tuple(sorted(set(options.rows))),
        adr_rows=options.adr_rows if peers else None,
        dlt_rows=options.dlt_rows if peers else None,
    )
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.folder) as folder:
        Suite(extent, Path(folder).resolve(), options.results).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="sizes to import")
    add("--adr-rows", type=int, default=100_000, help="rows for the ADR's algorithm")
    add("--dlt-rows", type=int, default=100_000, help="rows for dlt")
    add("--without-peers", action="store_true", help="skip the ADR's algorithm and dlt")
    add("--results", type=Path, default=_RESULTS, help="the Markdown file to write")
    add("--folder", type=Path, help="folder for temporary files, which are removed at the end")
    return parser


if __name__ == "__main__":
    main()
