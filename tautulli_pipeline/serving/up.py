"""Run the stream server, Dagster's webserver and Dagster's daemon, and restart them."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final

import dagster as dg
import orjson
import psutil
from filelock import FileLock, Timeout

from tautulli_pipeline.data_dir.directory import data_directory, explained_faults
from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import ConfigurationError, PipelineError, SourceError, in_one_line
from tautulli_pipeline.imports.connections import check_login, stream_address
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.imports.source_watch import require_readable
from tautulli_pipeline.imports.sources import configured_source
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.orchestration.instance import dagster_home, limit_pools, open_instance
from tautulli_pipeline.orchestration.names import names_of_servers
from tautulli_pipeline.orchestration.workers import (
    end_runs,
    fail_orphaned_runs,
    has_unfinished_runs,
)
from tautulli_pipeline.serving.configuration_watch import ConfigurationWatch
from tautulli_pipeline.serving.same_origin import LOOPBACK_NAMES
from tautulli_pipeline.serving.webserver import Webserver
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.supervision import Restarts, end_processes

_log = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - only with a password
_WEBSERVER: Final = "tautulli_pipeline.serving.web"
_DEFINITIONS: Final = ("-m", "tautulli_pipeline.definitions", "--log-level", "warning")
_MAX_QUICK_RESTARTS: Final = 5
_MAX_LOG_BYTES: Final = 5_000_000
_POLL_SECONDS: Final = 0.2
# For the webserver's first answer.
_START_TIMEOUT_SECONDS: Final = 120.0
# A child that takes longer to exit is killed.
_END_TIMEOUT_SECONDS: Final = 5.0
_RESTART_PAUSE_SECONDS: Final = 1.0
# This variable marks the children of one `up`, and the code servers that they start.
_MARK: Final = "TAUTULLI_PIPELINE_UP"


@dataclass
class _Service:
    """A child process that is restarted if it exits."""

    name: str
    command: Sequence[str]
    log: Path
    environment: dict[str, str]
    restarts: Restarts = field(default_factory=lambda: Restarts(_MAX_QUICK_RESTARTS))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        with self.log.open("ab") as log:
            # A new session: Ctrl-C reaches only the parent, which ends its children in order.
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def keep_running(self, say: Callable[[str], None]) -> None:
        """Restart the child if it has exited.

        Raises:
            PipelineError: it keeps exiting.
        """
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return
        if not self.restarts.allow_another():
            raise PipelineError(
                f"{self.name} keeps exiting with code {code}", hint=f"see {self.log}"
            )
        message = f"{self.name} exited with code {code}; restarting it"
        _log.warning(message)
        say(message)
        time.sleep(_RESTART_PAUSE_SECONDS)
        self.start()


@dataclass
class Serving:
    """Serves one data directory until a stop is requested.

    Attributes:
        say: receives status messages.
        mark: identifies the children of this `up`.
    """

    settings: Settings
    port: int
    stop: Stop
    say: Callable[[str], None]
    host: str = LOOPBACK
    mark: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def url(self) -> str:
        """The address of the web UI, as this machine reaches it."""
        host = LOOPBACK if self.host in _EVERY_ADDRESS else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def run(self) -> None:
        """Start all services, print the address, and keep them running.

        Raises:
            ConfigurationError: the port or the data directory is in use, or not usable.
            SourceError: IMPORT_DB_PATH is not a readable Tautulli database.
            StreamError: the stream server does not start.
            PipelineError: a child keeps exiting.
        """
        check_login(self.settings)
        webserver = Webserver(self.url, self.settings.password)
        self._require_protection()
        with ExitStack() as stack:
            stack.enter_context(explained_faults(self.settings.data_dir))
            stack.enter_context(data_directory(self.settings, self.say))
            stack.enter_context(self._exclusive())
            stack.enter_context(log_to(self.settings.layout.log("up")))
            _require_free(self.host, self.port)
            self._require_database()
            stack.enter_context(stream_address(self.settings))
            # Before the children start: opening new storage concurrently, both would try to
            # create its tables.
            instance = stack.enter_context(open_instance(self.settings.data_dir))
            fail_orphaned_runs(instance)
            limit_pools(instance)
            self._save_state()
            services = self._services()
            stack.callback(_end_children, self.mark)
            stack.callback(end_runs, instance)  # canceled imports can be resumed
            stack.callback(self.say, "stopping the services")
            for service in services:
                service.start()
            self._await_answer(webserver, services)
            if self.stop.is_requested:
                return
            self.say(f"{self.url}  (Ctrl-C to stop; logs are in {services[0].log.parent})")
            self._start_import(webserver, instance)
            watch = ConfigurationWatch(self.settings, self.say)
            while not self.stop.wait(_POLL_SECONDS):
                self._keep_running(services)
                if watch.has_new_servers():
                    self._reload(webserver)

    def _reload(self, webserver: Webserver) -> None:
        """Show the new servers in the UI. The daemon reloads by itself once a minute."""
        try:
            webserver.reload()
        except (OSError, HTTPException) as error:  # one that restarts reads the new file
            _log.warning("cannot reload the definitions: %r", error)

    def _require_protection(self) -> None:
        """Raise a `ConfigurationError` if others could reach the UI without a password."""
        if self.host in LOOPBACK_NAMES:
            return
        missing = [
            name
            for name, value in (
                ("PIPELINE_PASSWORD_FILE", self.settings.pipeline_password_file),
                ("PIPELINE_ALLOWED_HOSTS", self.settings.pipeline_allowed_hosts),
            )
            if not value
        ]
        if missing:
            raise ConfigurationError(
                f"cannot serve {self.host} without {' and '.join(missing)}",
                hint="others can reach that address: set a file with a password, and the names "
                "under which people open it, such as nas.local",
            )
        self.say(
            "the password is sent unencrypted: use a trusted network, or a proxy that adds TLS"
        )

    def _require_database(self) -> None:
        """Raise a `SourceError` if sensors could not read IMPORT_DB_PATH.

        One of several servers may be away; it must not keep the others from being imported.
        """
        for settings in self.settings.each_server:
            try:
                path = configured_source(settings)
                if path is not None:
                    with self.stop.interruptible():
                        require_readable(path, settings.layout.snapshots)
            except (ConfigurationError, SourceError) as error:
                if not settings.server:
                    raise
                self.say(f"{settings.server}: {in_one_line(error)}")

    def _services(self) -> list[_Service]:
        log = self.settings.layout.log
        environment = {**dagster_home(self.settings.data_dir), _MARK: self.mark}
        python = sys.executable
        commands = {
            "webserver": (python, "-m", _WEBSERVER, self.host, str(self.port)),
            "daemon": (python, "-m", "dagster._daemon", "run", *_DEFINITIONS),
        }
        return [
            _Service(f"the {name}", command, log(name), environment)
            for name, command in commands.items()
        ]

    def _keep_running(self, services: Sequence[_Service]) -> None:
        for service in services:
            service.keep_running(self.say)

    def _await_answer(self, webserver: Webserver, services: Sequence[_Service]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not self.stop.wait(_POLL_SECONDS) and not webserver.answers():
            self._keep_running(services)
            if time.monotonic() > deadline:
                raise PipelineError(
                    f"the webserver does not answer at {self.url}", hint=f"see {services[0].log}"
                )

    def _start_import(self, webserver: Webserver, instance: dg.DagsterInstance) -> None:
        if not self.settings.import_auto_start:
            return
        if not self.settings.import_enabled:
            self.say("IMPORT_AUTO_START is ignored because IMPORT_ENABLED is not true")
        elif not any(one.import_db_path for one in self.settings.each_server):
            self.say("IMPORT_AUTO_START is ignored because IMPORT_DB_PATH is not set")
        elif (
            any(has_unfinished_runs(instance, names.job) for names in names_of_servers())
            or ImportLog(self.settings.data_dir).lock.holder()
        ):
            self.say("an import is already running")
        else:
            with self.stop.interruptible():
                run_id = webserver.start_import()
            self.say(f"import started: {self.url}/runs/{run_id}")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock of the data directory, and end the children of an `up` that was killed."""
        lock = FileLock(self.settings.layout.up_lock, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise self._already_served() from None
        try:
            _end_children(self._saved_state().get("mark", ""))
            yield
            self.settings.layout.up_state.unlink(missing_ok=True)
        finally:
            if not self.settings.layout.dagster_config.exists():  # it did not start
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def _already_served(self) -> ConfigurationError:
        url = self._saved_state().get("url")
        where = f" at {url}" if url else ""
        return ConfigurationError(
            f"another `up` is already serving {self.settings.data_dir}{where}",
            hint="use that one, stop it first, or set PIPELINE_DATA_DIR to another directory",
        )

    def _save_state(self) -> None:
        """Save the address for people, and the mark for an `up` that follows a killed one."""
        state = {"url": self.url, "mark": self.mark}
        write_atomically(self.settings.layout.up_state, orjson.dumps(state))

    def _saved_state(self) -> dict[str, str]:
        with suppress(FileNotFoundError, ValueError):
            return dict(orjson.loads(self.settings.layout.up_state.read_bytes()))
        return {}


def _end_children(mark: str) -> None:
    """End the Dagster processes of the `up` with this mark, also those of killed children."""
    marked = [
        process.pid
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get(_MARK) == mark
        and any(
            part in {_WEBSERVER, "validate"} or part.partition(".")[0] == "dagster"
            for part in process.info["cmdline"] or ()
        )
    ]
    end_processes(marked, _END_TIMEOUT_SECONDS)


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}",
                hint="choose another port with --port",
            ) from error
