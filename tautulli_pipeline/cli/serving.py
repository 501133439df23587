"""`up`."""

from __future__ import annotations

from functools import partial

import click

from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import Settings


def run_up(settings: Settings, port: int) -> None:
    """Serve the data directory until Ctrl-C."""
    stop = Stop("stopped; what was under way can be resumed")
    with stop.heard():
        from tautulli_pipeline.serving.up import Serving

        Serving(settings, port, stop, partial(click.echo, err=True)).run()
    stop.require_none()
