"""Restarts are counted and processes are ended for certain, with small real processes."""

from __future__ import annotations

import subprocess
import sys

import psutil

from tautulli_pipeline.supervision import Restarts, end_processes

# Deaf to a request to end; its child is not.
DEAF_FAMILY = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
print("deaf", flush=True)
signal.pause()
"""


def test_a_family_is_ended_by_force_where_it_takes_too_long():
    command = [sys.executable, "-S", "-c", DEAF_FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as root:
        assert root.stdout.readline() == b"deaf\n"
        (child,) = psutil.Process(root.pid).children()
        end_processes([root.pid, root.pid], patience_seconds=0.2)
        # An orphan may wait for somebody to ask for its exit code.
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert root.wait(5) in {0, -9}


def test_ending_what_is_gone_does_nothing():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    end_processes([process.pid], patience_seconds=5)


def test_restarts_in_a_row_are_limited():
    restarts = Restarts(at_most=2)
    assert [restarts.allow_another() for _ in range(3)] == [True, True, False]


def test_a_steady_run_in_between_allows_as_many_restarts_again():
    restarts = Restarts(at_most=1)
    assert restarts.allow_another()
    restarts.started_at -= 61
    assert restarts.allow_another()
    restarts.started()
    assert [restarts.allow_another() for _ in range(2)] == [True, False]
