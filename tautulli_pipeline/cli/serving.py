"""`up`."""

from __future__ import annotations

import sys

from tautulli_pipeline.cli.stopping import StopSignals
from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.settings import Settings


def run_up(settings: Settings, port: int) -> None:
    """Serve the data directory until Ctrl-C."""
    signals = StopSignals(StoppedError("stopped; what was under way can be resumed"))
    with signals.heard():
        from tautulli_pipeline.orchestration.serving import Serving

        Serving(settings, port, signals.requested, _say).run()
    signals.require_none()


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
