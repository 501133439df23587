"""A consumer in a process of its own: it loads what it needs, then waits to be told to begin.

Dagster is not among it: the parent records what is done here. See `consumer_protocol` for
what goes in and out. Whoever started it may be gone at any moment: before it began it ends
at once, later after the batch in hand.
"""

from __future__ import annotations

import os
import signal
import sys

from tautulli_pipeline.memory import keep_memory_bounded, spare_pandas


def main() -> None:
    """Be deaf to signals from the first moment on, then load and serve."""
    # A terminal and a service manager reach all processes; the parent decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_memory_bounded()
    spare_pandas()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Unbuffered: a thread blocked on the buffered one would hold up the interpreter's end.
    orders = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)

    from tautulli_pipeline.orchestration.commanded_consuming import serve

    sys.exit(serve(orders, replies))


if __name__ == "__main__":
    main()
