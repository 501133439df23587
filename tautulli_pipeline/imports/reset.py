"""Reset the progress of imports; keep the imported data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.data_dir.directory import explained_faults
from tautulli_pipeline.errors import ConfigurationError, ImportRunningError, WarehouseError
from tautulli_pipeline.imports.known_warehouse import require_known_version
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, log_of
from tautulli_pipeline.settings import Settings


@dataclass(frozen=True)
class Forgotten:
    """What a reset removed."""

    import_id: str | None
    partitions: int
    receipts: int


NOTHING: Final = Forgotten(None, 0, 0)


def reset_progress(settings: Settings, forget_partitions: Callable[[], int]) -> Forgotten | None:
    """Forget the last import and every finished partition.

    Safe to repeat: the record is removed last, so an interrupted reset can be completed.

    Args:
        settings: the data directory; if they are of one server of the configuration file, only
            its progress is forgotten.
        forget_partitions: removes every partition from the history; returns their number.

    Returns:
        What was removed; None if there was nothing.

    Raises:
        ImportRunningError: an import or a consumer is running.
        ConfigurationError: the data directory is not writable.
        WarehouseVersionError: a newer version has used the data directory.
    """
    data_dir, layout = settings.data_dir, settings.layout
    logs = [log_of(settings)]
    if not settings.server:
        logs += map(log_of, settings.each_server if settings.has_servers else ())
    log = logs[0]
    if log.lock.holder():
        raise log.running()
    saved = (layout.run_history, layout.receipts, layout.import_record, layout.server_folders)
    if not any(path.exists() for path in saved):
        return None
    require_known_version(settings)
    with explained_faults(data_dir), log.exclusive(None), _no_consumer(settings, log):
        partitions = forget_partitions()
        found = [last for one in logs if (last := _last_import(one)) is not None]
        import_id = found[-1].import_id if found else None
        folders = [layout.receipts / (import_id or "-")] if settings.server else [layout.receipts]
        files = sum(1 for folder in folders for file in folder.rglob("*") if file.is_file())
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=not folder.exists())
        known = any(one.exists() for one in logs)
        for one in logs:
            one.remove()
        if not settings.server and layout.server_folders.exists():
            shutil.rmtree(layout.server_folders)
    return Forgotten(import_id, partitions, files) if known or partitions or files else None


def _last_import(log: ImportLog) -> ImportRecord | None:
    with suppress(ConfigurationError):  # a damaged record is one more reason to reset
        return log.read()
    return None


@contextmanager
def _no_consumer(settings: Settings, log: ImportLog) -> Iterator[None]:
    """Block consumers; wait for one that is finishing its current batch."""
    try:
        with consumer_lock(settings.layout, settings.warehouse_path):
            yield
    except WarehouseError as error:
        record = _last_import(log)
        raise ImportRunningError(
            f"cannot reset {settings.data_dir}: a consumer is writing the stream to the table",
            hint="wait until it is done; `tautulli-pipeline status` shows its progress",
            progress=record.summary() if record else None,
        ) from error
