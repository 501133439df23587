"""Fingerprints of a source, which change with what an import would see; cheap to compute."""

from __future__ import annotations

import time
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import orjson

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.source.address import Source, Tautulli
from tautulli_pipeline.source.original import locate, observe

if TYPE_CHECKING:
    from tautulli_pipeline.source.tautulli_api import Newest

# Another version may read the same bytes differently.
SURVEY_VERSION: Final = version("tautulli-pipeline")
# Some slack, so that a daily import is not a few seconds too early to download.
_SLACK_SECONDS: Final = 3600.0


def fingerprint(path: Source) -> str:
    """Return a fingerprint of the files at `path`, from their times, sizes and headers only.

    That of a running Tautulli changes with new plays only.

    Raises:
        SourceError: there is no file.
    """
    if isinstance(path, Tautulli):
        from tautulli_pipeline.source.tautulli_api import look

        return named_by(path, look(path))
    original = locate(path)
    return observe(original).name_at(original)


def named_by(tautulli: Tautulli, newest: Newest) -> str:
    """Return the fingerprint of a Tautulli after a look at it."""
    return f"{newest.plays} plays to {newest.row_id} {tautulli.address}"


def oldest_download(max_age_hours: float, now: float) -> float:
    """Return since when a download of a Tautulli is recent enough, in Unix time."""
    return now - max(max_age_hours * 3600 - _SLACK_SECONDS, 0)


def surveyed_fingerprint(source: Source, layout: DataDir, max_age_hours: float) -> str | None:
    """Return the fingerprint of the source if it is as at its last survey, otherwise None.

    Args:
        source: a database, or a running Tautulli.
        layout: the data directory with the survey.
        max_age_hours: how long to rely on the download of a Tautulli.

    Raises:
        SourceError: there is no file, or no Tautulli that answers.
    """
    with suppress(OSError, ValueError, TypeError):
        used_by, name, asked_at, *_ = orjson.loads(layout.survey.read_bytes())
        is_recent = asked_at is None or asked_at > oldest_download(max_age_hours, time.time())
        if used_by == SURVEY_VERSION and is_recent:
            return name if fingerprint(source) == name else None
    return None
