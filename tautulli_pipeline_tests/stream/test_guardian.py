"""The files that the guardian reads and writes in its directory."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tautulli_pipeline.data_dir.locks import open_private, try_lock
from tautulli_pipeline.stream import guardian
from tautulli_pipeline.stream.guardian import Guardian

CREDENTIALS = {"user": "pipeline", "password": "5ecret"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_private_file_ignores_the_umask(here):
    before = os.umask(0)
    try:
        with open_private("secret.json", "w") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert (here / "secret.json").stat().st_mode & 0o777 == 0o600
    with open_private("secret.json") as file:
        assert file.tell() == 1


def test_try_lock_takes_shared_and_exclusive_locks_without_waiting(here):
    with open_private("lock") as one, open_private("lock") as two:
        assert try_lock(one, fcntl.LOCK_SH)
        assert try_lock(two, fcntl.LOCK_SH)
        assert not try_lock(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_UN)
        assert try_lock(one, fcntl.LOCK_EX)
        assert not try_lock(two, fcntl.LOCK_SH)


@pytest.mark.parametrize(
    ("content", "port"),
    [
        ('{"nats": ["nats://127.0.0.1:40123"], "monitoring": []}', 40123),
        ('{"nats": ["nats://127.0.0.1:40123", "nats://[::1]:5"]}', 40123),
        ("", None),
        ('{"nats": ["nats://127.0', None),
    ],
)
def test_the_port_is_read_once_its_file_is_complete(here, content, port):
    (here / "nats-server_77.ports").write_text(content)
    assert guardian._bound_port(77) == port
    assert guardian._bound_port(7) is None


def test_last_errors_are_the_last_three_of_this_server(here):
    assert guardian._last_errors(5) == "its log contains no errors"
    lines = [
        "[5] 2026/01/01 00:00:00 [INF] Starting",
        *(f"[5] 2026/01/01 00:00:0{n} [ERR] error {n}" for n in range(4)),
        "[55] 2026/01/01 00:00:05 [FTL] of another server",
        "[5] 2026/01/01 00:00:06 [FTL] disk \N{EM DASH} full",
        "[5] 2026/01/01 00:00:07 [WRN] never mind",
    ]
    log = "\n".join(lines).encode() + b"\n\xff\xfe half a lin"
    (here / guardian.SERVER_LOG).write_bytes(log)
    assert guardian._last_errors(5) == "error 2; error 3; disk \N{EM DASH} full"
    assert guardian._last_errors(55) == "of another server"
    assert guardian._last_errors(6) == "its log contains no errors"


def test_a_server_is_recognized_by_name_and_configuration():
    ours = ["/venv/bin/nats-server", "-c", "/data/nats/nats-server.conf"]
    assert guardian._is_server(ours, ours)
    assert guardian._is_server(["/other/bin/nats-server", *ours[1:], "-p", "4"], ours)
    for other in (
        [],
        ["/venv/bin/nats-server"],
        ["/usr/bin/vim", *ours[1:]],
        [ours[0], "-c", "/data/other/nats-server.conf"],
        [ours[0], "-p", "4", *ours[1:]],
    ):
        assert not guardian._is_server(other, ours)


def test_the_store_limit_is_its_size_plus_three_quarters_of_the_free_disk(here):
    (here / "jetstream" / "a" / "msgs").mkdir(parents=True)
    (here / "jetstream" / "a" / "msgs" / "1.blk").write_bytes(b"x" * 5000)
    (here / "jetstream" / "a" / "msgs" / "index.db").write_bytes(b"x" * 700)
    guardian._write_config(CREDENTIALS, free_bytes=1_000_000)
    config = here / guardian.CONFIG_FILE
    assert "max_file_store: 755000 " in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    assert 'user: "pipeline", password: "5ecret"' in config.read_text()


def test_the_server_accepts_the_configuration(here):
    guardian._write_config(CREDENTIALS, free_bytes=10**9)
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    done = subprocess.run(
        [binary, "-t", "-c", here / guardian.CONFIG_FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def guarding():
    owner = Guardian("nats-server")
    with owner._users:
        yield owner


def test_each_guardian_has_its_own_password(here):
    passwords = set()
    for _ in range(3):
        with guarding() as owner:
            passwords.add(owner._credentials["password"])
    assert {len(password) for password in passwords} == {64}
    assert len(passwords) == 3


def test_a_server_is_unused_without_users_or_if_its_directory_was_replaced(here):
    with guarding() as owner:
        with open_private(guardian.USERS_LOCK) as user:
            assert try_lock(user, fcntl.LOCK_SH)
            assert not owner._is_unused()
            (here / guardian.USERS_LOCK).rename(here / "away")
            assert owner._is_unused()
            (here / guardian.USERS_LOCK).touch()
            assert owner._is_unused()
            (here / "away").replace(here / guardian.USERS_LOCK)
            assert not owner._is_unused()
        assert owner._is_unused()


def test_the_connection_file_is_complete_and_locked_and_is_kept_for_a_successor(here):
    with guarding() as owner:
        owner._server = psutil.Process()  # the current process
        owner._announce_when_ready()
        assert not (here / guardian.CONNECTION_FILE).exists()
        ports = here / f"nats-server_{os.getpid()}.ports"
        ports.write_text('{"nats": ["nats://127.0.0.1:4321"]}')
        owner._announce_when_ready()
        with (here / guardian.CONNECTION_FILE).open() as file:
            assert json.load(file) == {
                "url": "nats://127.0.0.1:4321",
                **owner._credentials,
                "server_pid": os.getpid(),
                "guardian_pid": os.getpid(),
            }
            assert not try_lock(file, fcntl.LOCK_SH)
            owner._withdraw()
            assert try_lock(file, fcntl.LOCK_SH)
        owner._withdraw()
    with guarding() as successor:
        assert (successor._credentials, successor._port) == (owner._credentials, 4321)
