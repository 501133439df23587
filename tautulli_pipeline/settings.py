"""Settings from environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.events.servers import Servers

# How long an import waits if another program has the warehouse open.
WAREHOUSE_WAIT_SECONDS: Final = 120.0

# Valid names of streams and consumers.
_NAME = r"^[^\s.*>/\\]+$"
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


def is_address(text: str) -> bool:
    """Whether a source is the address of a running Tautulli, not a path."""
    return text.strip().lower().startswith(("http://", "https://"))


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


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(str(error)) from error
    return name


_Zone = Annotated[str, AfterValidator(_known_zone)]


class Settings(BaseModel):
    """The settings from the environment, validated at start-up."""

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

    @property
    def servers(self) -> Servers:
        """The earlier ids of the server."""
        replaced = dict.fromkeys(self.import_server_replaces, self.import_server_id)
        return Servers({old: new for old, new in replaced.items() if old != new})

    @property
    def data_dir(self) -> Path:
        """Absolute path of the data directory."""
        return self.pipeline_data_dir.absolute()

    @property
    def layout(self) -> DataDir:
        """The paths in the data directory."""
        return DataDir(self.data_dir)

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
        """The time zone of analytics: PIPELINE_TIMEZONE, or else the system's; an IANA name."""
        return self.pipeline_timezone or _timezone_of_system()

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
        return _known_zone(tzlocal.get_localzone_name() or "UTC")
    except (KeyError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        return "UTC"


def load_settings() -> Settings:
    """Read the environment; an empty variable counts as unset.

    Raises:
        ConfigurationError: a variable has an invalid value; the message contains the
            variable, its value and the allowed values.
    """
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
    given = load_settings()
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
