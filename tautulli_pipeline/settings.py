"""Settings from environment variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from tautulli_pipeline.configuration import (
    Configuration,
    Server,
    is_address,
    known_zone,
    parse_configuration,
    read_configuration,
)
from tautulli_pipeline.data_dir.files import write_atomically
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.events.servers import Servers

# How long an import waits if another program has the warehouse open.
WAREHOUSE_WAIT_SECONDS: Final = 120.0

# Valid names of streams and consumers.
_NAME = r"^[^\s.*>/\\]+$"
_log = logging.getLogger(__name__)
_NAME_RULE = "a name without whitespace, dots, slashes, * or >"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _host_names(text: object) -> object:
    if not isinstance(text, str):
        return text
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def _path_or_address(value: object) -> object:
    return _expanded(Path(value)) if isinstance(value, str) and not is_address(value) else value


_Path = Annotated[Path, AfterValidator(_expanded)]
_Source = Annotated[Path | str, BeforeValidator(_path_or_address)]
_Names = Annotated[tuple[str, ...], BeforeValidator(_host_names)]


def _listed(value: object) -> object:
    """Split the text of a variable at its commas."""
    return (
        tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value
    )


_Zone = Annotated[str, AfterValidator(known_zone)]


class Settings(BaseModel):
    """The settings from the environment and the configuration file, validated at start-up."""

    model_config = ConfigDict(frozen=True)

    import_enabled: bool = False
    import_db_path: _Source | None = None
    import_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    import_dry_run: bool = False
    import_auto_start: bool = False
    import_server_id: Annotated[str, Field(min_length=1)] = "default"
    import_server_replaces: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    tautulli_api_key: SecretStr | None = None
    tautulli_api_key_file: _Path | None = None
    tautulli_tls_ca: _Path | None = None
    tautulli_max_age_hours: Annotated[float, Field(ge=0, le=8_760)] = 24

    pipeline_data_dir: _Path = Path("data")
    pipeline_config: _Path | None = None
    pipeline_timezone: _Zone | None = None
    duckdb_path: _Path | None = None
    pipeline_password_file: _Path | None = None
    pipeline_allowed_hosts: _Names = ()

    nats_url: str | None = None
    nats_stream: Annotated[str, Field(pattern=_NAME)] = "MEDIA_EVENTS"
    nats_durable_name: Annotated[str, Field(pattern=_NAME)] = "tautulli-pipeline"
    nats_duplicate_window_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = 120
    nats_creds: Path | None = None
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_token: SecretStr | None = None
    nats_tls_ca: Path | None = None

    dedup_window_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300
    dedup_max_entries: Annotated[int, Field(ge=0, le=10_000_000)] = 10_000

    _configuration: Configuration | None = PrivateAttr(default=None)
    _server: str = PrivateAttr(default="")

    @property
    def configuration(self) -> Configuration:
        """The contents of the configuration file; without values if there is none."""
        return self._configuration or Configuration()

    def configured(self, configuration: Configuration) -> Settings:
        """Return these settings with the contents of a configuration file."""
        settings = self.model_copy()
        settings._configuration = configuration
        return settings

    @property
    def server(self) -> str:
        """The server of the configuration file that these settings are of; '' if of none."""
        return self._server

    @property
    def has_servers(self) -> bool:
        """Whether the configuration file lists the servers."""
        return bool(self.configuration.servers)

    @property
    def each_server(self) -> tuple[Settings, ...]:
        """The settings of each server in the file, or these if it lists none."""
        if not self.has_servers:
            return (self,)
        return tuple(map(self._of, self.configuration.servers))

    def of_server(self, server_id: str | None) -> tuple[Settings, ...]:
        """Return the settings of the server with this id; those of each if it is None.

        Raises:
            ConfigurationError: there is no such server.
        """
        each = self.each_server
        if server_id is None:
            return each
        ids = [settings.import_server_id for settings in each]
        if server_id not in ids:
            raise ConfigurationError(
                f"there is no server {server_id}",
                hint=f"known ids: {', '.join(ids)}",
            )
        return (each[ids.index(server_id)],)

    def _of(self, server: Server) -> Settings:
        file = server.api_key_file
        update = {
            "import_server_id": server.id,
            "import_server_replaces": tuple(server.replaces),
            "import_db_path": server.source if is_address(server.source) else Path(server.source),
            **({"tautulli_api_key": None, "tautulli_api_key_file": Path(file)} if file else {}),
            **({"tautulli_tls_ca": Path(server.tls_ca)} if server.tls_ca else {}),
        }
        settings = self.model_copy(update=update)
        settings._server = server.id
        return settings

    @property
    def servers(self) -> Servers:
        """The earlier ids of all servers."""
        replaced = {
            old: settings.import_server_id
            for settings in self.each_server
            for old in settings.import_server_replaces
        }
        return Servers({old: new for old, new in replaced.items() if old != new})

    @property
    def fingerprint(self) -> str:
        """What changes with any setting, without secrets."""
        return f"{self.model_dump_json()}{self.configuration.model_dump_json()}"

    @property
    def own_ids(self) -> tuple[str, ...]:
        """The id of the server, and its earlier ones."""
        return tuple(dict.fromkeys((self.import_server_id, *self.import_server_replaces)))

    @property
    def data_dir(self) -> Path:
        """Absolute path of the data directory."""
        return self.pipeline_data_dir.absolute()

    @property
    def layout(self) -> DataDir:
        """The paths in the data directory."""
        return DataDir(self.data_dir, self._server)

    @property
    def configuration_file(self) -> Path:
        """Absolute path of the configuration file, which need not exist."""
        return (self.pipeline_config or self.layout.configuration).absolute()

    @property
    def password(self) -> str | None:
        """The password of the web UI; None if there is none.

        Raises:
            ConfigurationError: the file cannot be read, or holds no password.
        """
        file = self.pipeline_password_file
        return read_secret(file, "password", "PIPELINE_PASSWORD_FILE") if file else None

    @property
    def timezone(self) -> str:
        """The time zone of analytics, an IANA name; by default, the system's."""
        return self.pipeline_timezone or self.configuration.timezone or _timezone_of_system()

    @property
    def warehouse_path(self) -> Path:
        """Absolute path of the DuckDB file."""
        return (self.duckdb_path or self.layout.warehouse).absolute()


def read_secret(file: Path, what: str, variable: str) -> str:
    """Return the only line of the file that a variable names.

    Raises:
        ConfigurationError: the file cannot be read, or is empty.
    """
    try:
        secret = file.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"cannot read the {what} in {file}: {why}", hint=f"check {variable}"
        ) from None
    if not secret.strip():
        raise ConfigurationError(
            f"the {what} in {file} is empty", hint=f"write it into the file, or unset {variable}"
        )
    return secret


def _timezone_of_system() -> str:
    import tzlocal

    try:
        return known_zone(tzlocal.get_localzone_name() or "UTC")
    except (KeyError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        return "UTC"


def load_settings() -> Settings:
    """Read the environment and the configuration file; an empty variable counts as unset.

    Raises:
        ConfigurationError: a variable or a key of the file has an invalid value; the message
            contains its name, its value and the allowed values.
    """
    settings = _read_environment()
    found = _read_file(settings)
    return settings.configured(found[1]) if found else settings


def load_standing_settings(
    say: Callable[[str], None] = _log.warning,
    require: Callable[[Settings], None] = lambda _settings: None,
) -> Settings:
    """Read them for a process that keeps running: a bad file leaves the last good one in force.

    Args:
        say: receives why the file is not usable.
        require: raises if nothing may be written to the data directory, such as a copy of the file.

    Raises:
        ConfigurationError: a variable has an invalid value, or the file has never been usable.
    """
    settings = _read_environment()
    require(settings)
    kept = settings.layout.last_configuration
    try:
        found = _read_file(settings)
    except ConfigurationError as error:
        with suppress(OSError, UnicodeDecodeError, ConfigurationError):
            text = kept.read_text(encoding="utf-8")
            configuration = parse_configuration(text, settings.configuration_file)
            say(f"{error.message}; the last good one stays in force")
            return settings.configured(configuration)
        raise
    with suppress(OSError):  # there is no data directory yet, or it cannot be written
        text = found[0] if found else ""
        if text != (kept.read_text(encoding="utf-8") if kept.exists() else ""):
            write_atomically(kept, text.encode())
    return settings.configured(found[1]) if found else settings


def _read_file(settings: Settings) -> tuple[str, Configuration] | None:
    """Return the text and the contents of the configuration file; None if there is none."""
    file = settings.configuration_file
    if settings.pipeline_config is None and not file.exists():
        return None
    return read_configuration(file)


def _read_environment() -> Settings:
    variables = {name.lower(): value for name, value in os.environ.items() if value}
    given = {name: variables[name] for name in Settings.model_fields if name in variables}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        details = error.errors()[0]
        field = str(details["loc"][0])
        name = field.upper()
        raise ConfigurationError(
            f"{name}={_shown(field, details['input'])} is not usable: it must be {_allowed(field)}",
            hint=f"set {name} to an allowed value, or unset it to use the default",
        ) from None


def load_demo_settings() -> Settings:
    """Give this process and its children the default settings and a data directory of the demo.

    The directory is `demo-data` in the current directory, or in PIPELINE_DATA_DIR if that is set,
    so that the demo's plays never get into the warehouse or the stream of real ones.

    Raises:
        ConfigurationError: a variable has an invalid value.
    """
    given = _read_environment()
    parent = given.data_dir if "pipeline_data_dir" in given.model_fields_set else Path.cwd()
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
    os.environ["PIPELINE_DATA_DIR"] = str(parent / "demo-data")
    return load_settings()


def _shown(field: str, value: object) -> str:
    """Return the value for display; secrets are masked."""
    secret = "SecretStr" in str(Settings.model_fields[field].annotation)
    return "***" if secret else repr(value)


def _allowed(field: str) -> str:
    """Describe the allowed values of a variable."""
    info = Settings.model_fields[field]
    lowest = [limit.ge for limit in info.metadata if isinstance(limit, Ge)]
    highest = [limit.le for limit in info.metadata if isinstance(limit, Le)]
    if lowest and highest:
        kind = "a whole number" if info.annotation is int else "a number"
        return f"{kind} from {lowest[0]} to {highest[0]}"
    if info.annotation is bool:
        return "true or false"
    if field == "pipeline_timezone":
        return "the name of a time zone, such as Europe/Berlin"
    is_path = "Path" in str(info.annotation)
    return "a path below an existing home directory" if is_path else _NAME_RULE
