"""Tells whether somebody wipes assets in Dagster, without loading Dagster."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from tautulli_pipeline.source.original import sidecar


def wiped_assets(history_index: Path) -> list[tuple[str, str]]:
    """Return the assets that were ever wiped, with the time of the last one as Dagster stores it.

    If the database has no log, because nobody has it open, none is made.

    Args:
        history_index: the database in which Dagster records every partition.
    """
    mode = "mode=ro" if sidecar(history_index, "-wal").exists() else "immutable=1"
    uri = f"{history_index.absolute().as_uri()}?{mode}"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(
            "SELECT asset_key, asset_details FROM asset_keys "
            "WHERE asset_details IS NOT NULL ORDER BY asset_key"
        ).fetchall()
    return []  # there is none yet
