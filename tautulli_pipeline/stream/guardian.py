"""The guardian process: starts, announces and restarts one nats-server while it is in use.

Runs detached: ``python -m tautulli_pipeline.stream.guardian <nats dir> <nats-server> <lock fd>``.
It imports almost nothing, so it starts quickly and stays small. It uses these kernel locks:

- ``users.lock``: every user holds it shared. A guardian that gets it exclusively shuts down
  and holds it until it has exited.
- ``guardian.lock``: inherited from the starter and held while the guardian runs.
- ``server.lock``: held by nats-server, so two servers never share a store.
- ``server.json``: locked by the guardian that wrote it; an unlocked file is stale. It outlives a
  guardian that was killed: its successor keeps port and login, so that clients can reconnect.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tautulli_pipeline.data_dir.locks import is_replaced, open_private, try_lock
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.supervision import Restarts, end_processes

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("tautulli_pipeline.stream.guardian")  # also where it is __main__

USERS_LOCK = "users.lock"
GUARDIAN_LOCK = "guardian.lock"
SERVER_LOCK = "server.lock"
CONNECTION_FILE = "server.json"
CONFIG_FILE = "nats-server.conf"
SERVER_LOG = "nats-server.log"
GUARDIAN_LOG = "guardian.log"

_READY_POLL_SECONDS = 0.02
_USERS_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5
_RESTART_PAUSE_SECONDS = 0.5
_MAX_QUICK_RESTARTS = 20

# By default, the server limits its store to three quarters of the free disk space without
# counting the data it already holds. Without a limit it fills the disk, and then the stream
# cannot even be purged.
_FREE_DISK_SHARE = 0.75

_CONFIG = """\
host: "127.0.0.1"
port: -1
max_payload: 8MB
authorization {{ user: "{user}", password: "{password}" }}
jetstream {{ store_dir: ".", max_file_store: {max_file_store_bytes} }}
ports_file_dir: "."
log_file: "{log}"
logfile_size_limit: 1MB
logfile_max_num: 3
"""

_ERROR = re.compile(r"\[(?:ERR|FTL)\] ")
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class Guardian:
    """The owner of the nats-server in the current directory."""

    def __init__(self, binary: str) -> None:
        self._command = [binary, "-c", str(Path.cwd() / CONFIG_FILE)]
        self._credentials, self._port = _login_and_port()
        self._users = open_private(USERS_LOCK)
        self._announcement: IO[str] | None = None
        self._restarts = Restarts(_MAX_QUICK_RESTARTS)

    def serve_until_unused(self) -> None:
        """Keep the server running while it has users."""
        self._start()
        try:
            while not self._is_unused():
                if self._server.poll() is not None:
                    self._restart()
                elif self._announcement is None:
                    self._announce_when_ready()
                time.sleep(_USERS_POLL_SECONDS if self._announcement else _READY_POLL_SECONDS)
            Path(CONNECTION_FILE).unlink(missing_ok=True)
        finally:
            self._withdraw()
            end_processes([self._server.pid], _GRACE_SECONDS)

    def _is_unused(self) -> bool:
        is_free = try_lock(self._users, fcntl.LOCK_EX)
        return is_free or is_replaced(self._users, Path(USERS_LOCK))

    def _start(self) -> None:
        with open_private(SERVER_LOCK) as lock:
            _lock_store(lock, self._command)
            for leftover in Path().glob("*.ports"):
                leftover.unlink()
            _write_config(self._credentials, shutil.disk_usage(".").free)
            self._server = subprocess.Popen(
                [*self._command, *(["-p", str(self._port)] if self._port else [])],
                stdin=subprocess.DEVNULL,
                pass_fds=(lock.fileno(),),
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 -- this process has one thread
            )

    def _restart(self) -> None:
        self._withdraw()
        # A server that was killed has no fault of its own, even if it was still starting.
        is_faulty = self._port is None and self._server.returncode >= 0
        if is_faulty or not self._restarts.allow_another():
            code, cause = self._server.returncode, _last_errors(self._server.pid)
            sys.exit(f"nats-server exited with code {code}: {cause}")
        _log.warning("nats-server exited with code %s; restarting it", self._server.returncode)
        time.sleep(_RESTART_PAUSE_SECONDS)
        self._start()

    def _announce_when_ready(self) -> None:
        port = _bound_port(self._server.pid)
        if port is None:
            return
        self._port = port
        connection = {
            "url": f"nats://127.0.0.1:{port}",
            **self._credentials,
            "server_pid": self._server.pid,
            "guardian_pid": os.getpid(),
        }
        self._announcement = open_private(f"{CONNECTION_FILE}.new", "w")
        fcntl.flock(self._announcement, fcntl.LOCK_EX)
        json.dump(connection, self._announcement)
        self._announcement.flush()
        Path(self._announcement.name).replace(CONNECTION_FILE)

    def _withdraw(self) -> None:
        if self._announcement is not None:
            self._announcement.close()
            self._announcement = None


def _login_and_port() -> tuple[dict[str, str], int | None]:
    """Return login and port of a guardian that was killed, or else a new login and no port."""
    with suppress(FileNotFoundError, ValueError, KeyError):
        left = json.loads(Path(CONNECTION_FILE).read_text())
        login = {name: left[name] for name in ("user", "password")}
        return login, int(left["url"].rpartition(":")[2])
    return {"user": "pipeline", "password": secrets.token_hex(32)}, None


def _write_config(credentials: dict[str, str], free_bytes: int) -> None:
    held_bytes = sum(file.stat().st_size for file in Path("jetstream").rglob("*.blk"))
    limit_bytes = held_bytes + int(free_bytes * _FREE_DISK_SHARE)
    with open_private(CONFIG_FILE, "w") as config:
        config.write(
            _CONFIG.format(**credentials, max_file_store_bytes=limit_bytes, log=SERVER_LOG)
        )


def _bound_port(pid: int) -> int | None:
    """Return the port from the file that the server writes once it accepts connections."""
    for file in Path().glob(f"*_{pid}.ports"):
        try:
            return int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
        except ValueError:
            return None
    return None


def _last_errors(pid: int) -> str:
    log = Path(SERVER_LOG)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith(f"[{pid}]") and _ERROR.search(line)]
    return "; ".join(_ERROR.split(line)[-1] for line in errors[-3:]) or "its log contains no errors"


def _lock_store(lock: IO[str], command: list[str]) -> None:
    """Lock the store, and terminate a server that a killed guardian left behind.

    Terminates only a nats-server that was started with this directory's configuration.
    """
    deadline = time.monotonic() + 2 * _GRACE_SECONDS
    while not try_lock(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            sys.exit("a server left behind by an earlier guardian does not exit")
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            if _is_server(process.info["cmdline"] or [], command):
                end_processes([process.pid], _GRACE_SECONDS)
        time.sleep(_READY_POLL_SECONDS)


def _is_server(arguments: list[str], command: list[str]) -> bool:
    is_same_config = arguments[1:3] == command[1:3]
    return is_same_config and Path(arguments[0]).name == Path(command[0]).name


def _die_with(guardian_pid: int) -> Callable[[], None] | None:
    """Return a `preexec_fn` that ties the server's life to the guardian's; None except on Linux."""
    if _prctl is None:
        return None

    def prepare() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != guardian_pid:
            os._exit(1)

    return prepare


def main(directory: str, binary: str, guardian_lock: str) -> None:
    """Detach, then run the server of this directory until it has no users."""
    if os.fork():
        # Init reaps an orphan, so the starter does not have to.
        os._exit(0)
    os.set_inheritable(int(guardian_lock), False)
    os.umask(0o077)
    os.chdir(directory)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with log_to(Path("../log/stream-server.log").resolve()):
        Guardian(binary).serve_until_unused()


if __name__ == "__main__":
    main(*sys.argv[1:])
