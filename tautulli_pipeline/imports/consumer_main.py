"""A consumer in a process of its own: it loads what it needs, then waits for its orders.

It does without Dagster: the importer records what is done here. `consumer_protocol` says
what goes in and out. The importer may be gone at any moment: before it began, the consumer
then ends at once, later after its current batch.
"""

from __future__ import annotations

import os
import signal
import sys

from tautulli_pipeline.memory import block_pandas, freeze_gc, keep_memory_bounded


def main() -> None:
    """Ignore signals immediately, then load and serve."""
    # A terminal and a service manager signal all processes; the importer decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_memory_bounded()
    block_pandas()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Unbuffered: a thread blocked on the buffered one would hold up the interpreter's end.
    orders = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)

    from tautulli_pipeline.data_dir.logs import log_to_stderr
    from tautulli_pipeline.imports.consumer_worker import serve

    if "--debug" in sys.argv:
        log_to_stderr()

    freeze_gc()
    sys.exit(serve(orders, replies))


if __name__ == "__main__":
    main()
