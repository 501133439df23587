"""The configuration file `pipeline.toml`: several servers, people and the time zone."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from tautulli_pipeline.errors import ConfigurationError

_SERVER_ID: Final = r"^[a-z0-9_]{1,32}$"
# What each key may be, for messages.
_RULES: Final = {
    "id": "1 to 32 characters of a-z, 0-9 and _ for a server, and the user id for an account",
    "source": "the path of a database, or the address of a Tautulli",
    "api_key_file": "the path of a file",
    "tls_ca": "the path of a file",
    "replaces": "a list of earlier server ids",
    "timezone": "the name of a time zone, such as Europe/Berlin",
    "servers": "a list of servers, each below a line [[servers]]",
    "people": "a list of people, each below a line [[people]]",
    "name": "the name of a person",
    "users": 'a list of accounts, such as [{ server = "home", id = 1234 }]',
    "server": "the id of a server",
}
_NOT_A_KEY: Final = "extra_forbidden"
_MISSING: Final = "missing"
_SHOWN_CHARACTERS: Final = 60


def is_address(text: str) -> bool:
    """Whether a source is the address of a running Tautulli, not a path."""
    return text.strip().lower().startswith(("http://", "https://"))


def known_zone(name: str) -> str:
    """Return the name of a time zone; raise a `ValueError` if there is none."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(str(error)) from error
    return name


_Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*\S[^\x00]*$")]


class _Table(BaseModel):
    """A table of the file, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Server(_Table):
    """One Plex server and its Tautulli.

    Attributes:
        id: names it in keys, rows and Dagster.
        source: a path, or the address of a running Tautulli.
        api_key_file: the file with the key of that Tautulli.
        tls_ca: the certificate authority of that Tautulli.
        replaces: its earlier ids.
    """

    id: Annotated[str, Field(pattern=_SERVER_ID)]
    source: _Text
    api_key_file: _Text | None = None
    tls_ca: Annotated[_Text | None, Field(validation_alias=AliasChoices("tls_ca", "tls"))] = None
    replaces: Annotated[list[_Text], Field()] = []


class PersonsAccount(_Table):
    """An account of a person on one server."""

    server: _Text
    id: Annotated[int, Field(ge=0, le=2**31 - 1)]


class Person(_Table):
    """A person with one or several accounts."""

    name: _Text
    users: Annotated[list[PersonsAccount], Field(min_length=1)]


class Configuration(_Table):
    """The contents of the file."""

    timezone: Annotated[str, AfterValidator(known_zone)] | None = None
    servers: list[Server] = []
    people: list[Person] = []


def parse_configuration(text: str, file: Path) -> Configuration:
    """Return the contents of the file; relative paths in it start at its folder.

    Raises:
        ConfigurationError: it is not usable; the message has the file, the key, its value and
            what is allowed.
    """
    try:
        found = Configuration.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _unusable(file, f"it is not valid TOML: {_lower(str(error))}") from None
    except ValidationError as error:
        raise _unusable(file, _fault(error)) from None
    if problem := next(_contradictions(found), None):
        raise _unusable(file, problem)
    servers = [_placed(server, file.parent) for server in found.servers]
    sources = Counter(server.source for server in servers)
    for number, server in enumerate(servers):
        if sources[server.source] > 1:
            raise _unusable(
                file, f"servers[{number}].source = {server.source!r} is the source of two servers"
            )
    return found.model_copy(update={"servers": servers})


def read_configuration(file: Path) -> tuple[str, Configuration]:
    """Return the text of the file, and its contents.

    Raises:
        ConfigurationError: it cannot be read, or it is not usable.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"cannot read the configuration file {file}: {why}",
            hint="make it readable, or check PIPELINE_CONFIG",
        ) from None
    return text, parse_configuration(text, file)


def _unusable(file: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{file} is not usable: {problem}", hint="correct it; docs/servers.md describes every key"
    )


def _fault(error: ValidationError) -> str:
    """Describe the first fault: the key, its value and what is allowed."""
    fault = error.errors()[0]
    where, key = _spelled(fault["loc"]), _last_key(fault["loc"])
    if fault["type"] == _NOT_A_KEY:
        return f"there is no key {where}; {_keys_beside(fault['loc'])}"
    allowed = _RULES.get(key, "")
    if fault["type"] == _MISSING:
        return f"{where} is missing: it must be {allowed}"
    return f"{where} = {_shown(fault['input'])} is not allowed: it must be {allowed}"


def _spelled(place: Sequence[int | str]) -> str:
    """Return the place of a value, such as `servers[1].id`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).lstrip(".")


def _last_key(place: Sequence[int | str]) -> str:
    return next((part for part in reversed(place) if isinstance(part, str)), "")


def _keys_beside(place: Sequence[int | str]) -> str:
    tables: dict[str, type[_Table]] = {"servers": Server, "people": Person, "users": PersonsAccount}
    table = tables.get(_last_key(place[:-1]), Configuration)
    return f"the keys are {', '.join(table.model_fields)}"


def _shown(value: Any) -> str:  # noqa: ANN401 - a value of the file
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _contradictions(found: Configuration) -> Iterator[str]:
    """Yield what is wrong with values that are allowed by themselves."""
    ids = [server.id for server in found.servers]
    owners: dict[str, str] = {}
    for number, server in enumerate(found.servers):
        if server.id in ids[:number]:
            yield f"servers[{number}].id = {server.id!r} is the id of two servers"
        for old in server.replaces:
            where = f"servers[{number}].replaces = {old!r}"
            if old in ids:
                yield f"{where} is the id of a server: it must be an id that no server has now"
            if owners.setdefault(old, server.id) != server.id:
                yield f"{where} is replaced by {owners[old]!r} already: one server must have it"
    accounts: set[tuple[str, int]] = set()
    for number, person in enumerate(found.people):
        for account in person.users:
            key = (account.server, account.id)
            if key in accounts:
                yield (
                    f"people[{number}].users = {{ server = {account.server!r}, id = {account.id} "
                    "} is listed twice: an account belongs to one person"
                )
            accounts.add(key)


def _placed(server: Server, folder: Path) -> Server:
    """Return the server with absolute paths."""
    source = server.source if is_address(server.source) else str(_below(folder, server.source))
    files = {
        name: str(_below(folder, value))
        for name in ("api_key_file", "tls_ca")
        if (value := getattr(server, name)) is not None
    }
    return server.model_copy(update={"source": source, **files})


def _below(folder: Path, path: str) -> Path:
    try:
        return folder.absolute() / Path(path).expanduser()
    except RuntimeError:  # `~name` is a file name if there is no such user
        return folder.absolute() / path
