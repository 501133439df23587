"""A warehouse that another process has open, as a running consumer does."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLD = """
import sys
from pathlib import Path
from tautulli_pipeline.warehouse import schema
connection = schema.connect(Path(sys.argv[1]), {})
held = "('other', 1, TIMESTAMP '2026-01-01')"
connection.execute(f"INSERT OR IGNORE INTO stream_positions VALUES {held}")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(warehouse: Path) -> Iterator[int]:
    """Open `warehouse` for writing in another process; yield its id and kill it at the end."""
    command = [sys.executable, "-c", _HOLD, str(warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process.pid
        finally:
            process.kill()
