"""The entry point of the process that builds the analytics.

It has the memory of a build to itself, without Dagster. It reads one line of JSON, a `Request`,
and writes one, a `Reply`. The end of its input means that whoever waits for it is gone: it ends at
once then, because an unfinished build is of no use.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from tautulli_pipeline.memory import block_pandas, keep_memory_bounded, loading_modules


def main() -> None:
    """Build, and reply with the result or the error."""
    # Terminals and service managers signal all processes; the parent decides what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_memory_bounded()
    block_pandas()
    # These take a third of a second to load, which can pass before there is a request.
    with loading_modules():
        from tautulli_pipeline.analytics.build import build
        from tautulli_pipeline.analytics.building import reply_to

    asked = sys.stdin.buffer.readline()
    if not asked:
        return
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.stdout.buffer.write(reply_to(asked, build) + b"\n")
    sys.stdout.flush()


def _end_with_input() -> None:
    # Unbuffered: a thread blocked on a buffered reader would delay the shutdown.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
