"""What the guardian of a nats-server reads and writes in the directory that it owns."""

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


def test_a_private_file_is_for_its_owner_alone_whatever_the_mask(here):
    before = os.umask(0)
    try:
        with open_private("secret.json", "w") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert (here / "secret.json").stat().st_mode & 0o777 == 0o600
    with open_private("secret.json") as file:
        assert file.tell() == 1


def test_a_lock_is_taken_if_it_is_free_now_and_shared_with_those_who_share(here):
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
def test_the_port_is_read_once_the_server_has_written_it_whole(here, content, port):
    (here / "nats-server_77.ports").write_text(content)
    assert guardian._bound_port(77) == port
    assert guardian._bound_port(7) is None


def test_the_last_words_are_the_last_three_faults_of_this_server(here):
    assert guardian._last_words(5) == "nothing in its log"
    lines = [
        "[5] 2026/01/01 00:00:00 [INF] Starting",
        *(f"[5] 2026/01/01 00:00:0{n} [ERR] fault {n}" for n in range(4)),
        "[55] 2026/01/01 00:00:05 [FTL] of another server",
        "[5] 2026/01/01 00:00:06 [FTL] disk \N{EM DASH} full",
        "[5] 2026/01/01 00:00:07 [WRN] never mind",
    ]
    log = "\n".join(lines).encode() + b"\n\xff\xfe half a lin"
    (here / guardian.SERVER_LOG).write_bytes(log)
    assert guardian._last_words(5) == "fault 2; fault 3; disk \N{EM DASH} full"
    assert guardian._last_words(55) == "of another server"
    assert guardian._last_words(6) == "nothing in its log"


def test_only_a_server_of_the_same_name_and_configuration_is_ours():
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


def test_the_store_may_take_three_quarters_of_the_free_disk_beside_what_it_holds(here):
    (here / "jetstream" / "a" / "msgs").mkdir(parents=True)
    (here / "jetstream" / "a" / "msgs" / "1.blk").write_bytes(b"x" * 5000)
    (here / "jetstream" / "a" / "msgs" / "index.db").write_bytes(b"x" * 700)
    guardian._write_config(CREDENTIALS, free_bytes=1_000_000)
    config = here / guardian.CONFIG_FILE
    assert "max_file_store: 755000 " in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    assert 'user: "pipeline", password: "5ecret"' in config.read_text()


def test_the_configuration_is_one_that_the_server_takes(here):
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


def test_each_guardian_has_a_password_of_its_own(here):
    passwords = set()
    for _ in range(3):
        with guarding() as owner:
            passwords.add(owner._credentials["password"])
    assert {len(password) for password in passwords} == {64}
    assert len(passwords) == 3


def test_a_server_is_unused_once_nobody_shares_its_lock_or_its_directory_is_another(here):
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


def test_an_announcement_is_locked_whole_and_gone_with_its_guardian(here):
    with guarding() as owner:
        owner._server = psutil.Process()  # this very process
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
        assert not (here / guardian.CONNECTION_FILE).exists()
        owner._withdraw()
