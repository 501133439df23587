"""Counting restarts and terminating process trees, with small real processes."""

from __future__ import annotations

import subprocess
import sys

import psutil

from tautulli_pipeline.supervision import Restarts, end_processes

# The parent ignores SIGTERM; its child does not.
STUBBORN_TREE = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
print("ready", flush=True)
signal.pause()
"""


def test_a_process_tree_is_killed_after_the_grace_period():
    command = [sys.executable, "-S", "-c", STUBBORN_TREE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as root:
        assert root.stdout.readline() == b"ready\n"
        (child,) = psutil.Process(root.pid).children()
        end_processes([root.pid, root.pid], patience_seconds=0.2)
        # An orphan may remain a zombie until it is reaped.
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert root.wait(5) in {0, -9}


def test_ending_an_exited_process_does_nothing():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    end_processes([process.pid], patience_seconds=5)


def test_consecutive_restarts_are_limited():
    restarts = Restarts(at_most=2)
    assert [restarts.allow_another() for _ in range(3)] == [True, True, False]


def test_a_steady_run_resets_the_restart_count():
    restarts = Restarts(at_most=1)
    assert restarts.allow_another()
    restarts.started_at -= 61
    assert restarts.allow_another()
    assert [restarts.allow_another() for _ in range(2)] == [True, False]
