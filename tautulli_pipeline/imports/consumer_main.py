"""The entry point of the consumer process: load its modules, then wait for orders.

It does not use Dagster: the import records what is done here. `consumer_protocol` defines its
input and output. If the import goes away, the consumer ends: immediately if it has not begun,
otherwise after its current batch.
"""

from __future__ import annotations

import os
import signal
import sys

from tautulli_pipeline.memory import (
    block_pandas,
    freeze_gc,
    keep_memory_bounded,
    loading_modules,
)


def main() -> None:
    """Ignore signals immediately, then load the worker and serve."""
    # Terminals and service managers signal all processes; the import decides what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_memory_bounded()
    block_pandas()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Unbuffered: a thread blocked on a buffered reader would delay interpreter shutdown.
    orders = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)

    with loading_modules():
        from tautulli_pipeline.data_dir.logs import log_to_stderr
        from tautulli_pipeline.imports.consumer_worker import serve

    freeze_gc()
    with log_to_stderr(enabled="--debug" in sys.argv):
        sys.exit(serve(orders, replies))


if __name__ == "__main__":
    main()
