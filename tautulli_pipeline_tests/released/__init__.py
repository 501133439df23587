"""A data directory that version 0.1.0 left behind, with the database that it imported.

`make.py` made `v0.1.0.tar.xz` with that version. It has 300 plays, of which two were changed by
hand after they came again, and other producers' messages with secrets. The import of 200 more
plays was killed: their messages are on the stream, and one partition has a receipt.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
PLAYS, LATER_PLAYS = 300, 200
# The files that name the database.
_NAMING = ("import.json", "import.claim")


class Released(NamedTuple):
    """A data directory of version 0.1.0 and the database of its last import."""

    data_dir: Path
    database: Path

    @property
    def warehouse(self) -> Path:
        """The file of the warehouse."""
        return self.data_dir / "playback.duckdb"


def unpack(folder: Path) -> Released:
    """Write the data directory and the database to an empty folder."""
    with tarfile.open(FOLDER / "v0.1.0.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    made_in = (folder / "folder").read_text()
    for name in _NAMING:
        path = folder / "data" / name
        path.write_text(path.read_text().replace(made_in, str(folder)))
    return Released(folder / "data", folder / "tautulli.db")
