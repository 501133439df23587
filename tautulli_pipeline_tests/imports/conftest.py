from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import pytest

HOLD = """
import sys
from tautulli_pipeline.warehouse import schema
connection = schema.connect(__import__("pathlib").Path(sys.argv[1]), {})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held_by_another_process():
    """Opens a warehouse for writing in a process of its own, whose id it gives."""

    @contextmanager
    def hold(path):
        command = [sys.executable, "-c", HOLD, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout.readline() == b"held\n"
                yield process
            finally:
                process.kill()

    return hold
