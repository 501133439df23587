"""What an import and its consumer process say to each other: one JSON object a line.

The parent writes orders to the consumer's standard input and reads replies from its
standard output. The end of the input means that the parent is gone.
"""

from __future__ import annotations

from typing import Final

# Orders.
BEGIN: Final = "begin"
DRAIN: Final = "drain"
FINISH: Final = "finish"

# Replies.
READY: Final = "ready"
PROGRESS: Final = "progress"
DRAINED: Final = "drained"
WAITING: Final = "waiting"
FINISHED: Final = "finished"
FAILED: Final = "failed"
