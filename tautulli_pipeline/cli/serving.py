"""The `up` command."""

from __future__ import annotations

from tautulli_pipeline.cli.lines import print_notice
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import Settings


def run_up(settings: Settings, port: int) -> None:
    """Run the services of the data directory until Ctrl-C."""
    stop = Stop("stopped; unfinished work can be resumed")
    with stop.heard():
        from tautulli_pipeline.serving.up import Serving

        Serving(settings, port, stop, print_notice).run()
    stop.require_none()
