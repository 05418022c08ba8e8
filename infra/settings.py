"""A party's settings: `<home>/party.yaml`, checked as a whole. Keys are not settings: see `infra/secrets.py`.

party: acme
bootstrap_servers: 127.0.0.1:9092
peers: [globex]
datasets:
  customers: {path: data/customers.csv.gz, id: customer_id, label: churned}
object_store: {kind: directory, path: objects}
approval: {auto: false, accept_leaks: []}
access: {kind: scram, ca: ../broker/tls/ca.pem}
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from infra.access_settings import OWNED_BY_ACCESS, AccessSettings, ScramAccess
from infra.passphrase import KeySettings
from infra.score_settings import ScoreSettings
from infra.strict_yaml import Strict, parse_yaml
from infra.topics import PARTITIONS, check_party_name
from schemas.jobs import Leak, Mistake

FILE_NAME = "party.yaml"
#: Names of datasets, as they stand in job specs which other parties read.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: pydantic puts them into the paths of mistakes.
KINDS = frozenset({"directory", "s3", "topic", "sql", "http", "scram", "custom"})
#: Client properties which decide exactly-once: the engine sets them, a file must not.
OWNED_BY_THE_ENGINE = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "group.id",
        "group.instance.id",
        "isolation.level",
        "partition.assignment.strategy",
        "transactional.id",
        "transaction.timeout.ms",
    }
)


class SettingsError(ValueError):
    """The settings cannot be used; `mistakes` lists everything that was found, with paths."""

    def __init__(self, path: Path, mistakes: tuple[Mistake, ...]) -> None:
        self.path = path
        self.mistakes = mistakes
        lines = [
            f"  {mistake.path}: {mistake.message}" if mistake.path else f"  {mistake.message}" for mistake in mistakes
        ]
        super().__init__("\n".join([f"{path} cannot be used:", *lines]))


class DatasetSettings(Strict):
    """A table that jobs may use by its name. With `label`, jobs may use that column as label and as nothing else."""

    #: Relative to the home.
    path: Annotated[str, Field(min_length=1)]
    id: Annotated[str, Field(min_length=1)]
    label: str | None = None


class DirectoryStoreSettings(Strict):
    """Large objects in a folder, relative to the home."""

    kind: Literal["directory"]
    path: Annotated[str, Field(min_length=1)] = "objects"


class S3StoreSettings(Strict):
    """Large objects in a bucket. Credentials come from where boto3 looks: environment, profile, instance role."""

    kind: Literal["s3"]
    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write it with http:// or https://")
        if value is not None and "@" in value:
            raise ValueError(
                "credentials do not belong here: put them where boto3 looks (AWS_ACCESS_KEY_ID, a profile)"
            )
        return value


class ApprovalSettings(Strict):
    """Whether jobs that others propose run without asking, and which leaks such a job may have, each by its name."""

    auto: bool = False
    accept_leaks: Annotated[tuple[Annotated[Leak, Field(strict=False)], ...], Field(strict=False)] = ()


class TopicSettings(Strict):
    """How the party's topics are made."""

    partitions: Annotated[int, Field(ge=1, le=100)] = PARTITIONS
    replication_factor: Annotated[int, Field(ge=1, le=9)] = 1


ObjectStoreSettings = Annotated[DirectoryStoreSettings | S3StoreSettings, Field(discriminator="kind")]


class PartySettings(Strict):
    """Everything about a party that is neither a key nor a job."""

    party: str
    bootstrap_servers: Annotated[str, Field(min_length=1)]
    peers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    datasets: dict[str, DatasetSettings] = Field(default_factory=dict)
    object_store: ObjectStoreSettings = DirectoryStoreSettings(kind="directory")
    approval: ApprovalSettings = ApprovalSettings()
    topics: TopicSettings = TopicSettings()
    score: ScoreSettings = ScoreSettings()
    keys: KeySettings = KeySettings()
    access: AccessSettings = ScramAccess(kind="scram")
    #: Further properties of the Kafka clients, by their names in librdkafka.
    kafka: dict[str, str | int | bool] = Field(default_factory=dict)
    _home: Path = PrivateAttr(default=Path())

    @property
    def home(self) -> Path:
        """The folder of the party; paths in the settings are relative to it."""
        return self._home

    def resolve(self, path: str) -> Path:
        """`path` of these settings as an absolute path."""
        return self._home / Path(path).expanduser()

    @field_validator("party")
    @classmethod
    def _is_party_name(cls, value: str) -> str:
        check_party_name(value)
        return value

    @field_validator("bootstrap_servers")
    @classmethod
    def _names_servers(cls, value: str) -> str:
        for server in value.split(","):
            host, separator, port = server.strip().rpartition(":")
            if not (host and separator and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError(f"{server.strip()!r} is not like broker.example:9092; separate several by commas")
        return value

    @field_validator("peers")
    @classmethod
    def _are_party_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for peer in value:
            check_party_name(peer)
        if len(set(value)) != len(value):
            raise ValueError("a peer is named twice")
        return value

    @field_validator("datasets")
    @classmethod
    def _have_names(cls, value: dict[str, DatasetSettings]) -> dict[str, DatasetSettings]:
        for name in value:
            if not re.match(NAME_PATTERN, name):
                raise ValueError(f"{name!r} cannot name a dataset: use up to 64 letters, digits, dots and hyphens")
        return value

    @field_validator("kafka")
    @classmethod
    def _leaves_the_engine_alone(cls, value: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        owned = sorted(OWNED_BY_THE_ENGINE & value.keys())
        if owned:
            raise ValueError(f"{', '.join(owned)} cannot be set: exactly-once depends on them")
        return value

    @model_validator(mode="after")
    def _names_access_once(self) -> Self:
        twice = sorted(OWNED_BY_ACCESS & self.kafka.keys())
        if twice and isinstance(self.access, ScramAccess):
            raise ValueError(
                f"kafka: {', '.join(twice)} cannot be set where `access` says how to connect; for another mechanism "
                "than SCRAM-SHA-512 over TLS write `access: {kind: custom}`"
            )
        return self

    @model_validator(mode="after")
    def _is_not_its_own_peer(self) -> Self:
        if self.party in self.peers:
            raise ValueError(f"{self.party} is the party itself and cannot be one of its peers")
        return self


def load_settings(home: Path) -> PartySettings:
    """The settings in `home`. Raises `SettingsError` with all mistakes at once."""
    path = home.absolute() / FILE_NAME
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "there is no such file: make one with `isthmus party init`, or name another --home"
        raise SettingsError(path, (Mistake("", hint),)) from None
    except (OSError, ValueError) as error:
        raise SettingsError(path, (Mistake("", str(error)),)) from error
    if not isinstance(document, dict):
        raise SettingsError(path, (Mistake("", "expected settings such as `party: acme`, found none"),))
    try:
        settings = PartySettings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(path, tuple(_mistake(details) for details in error.errors())) from error
    settings._home = home.absolute()
    return settings


def _mistake(details: ErrorDetails) -> Mistake:
    parts = [part for part in details["loc"] if part not in KINDS]
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        message = "unknown setting: a misspelling?"
    elif details["type"] == "missing":
        message = "is missing"
    return Mistake(_path(parts), message)


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text


def check_settings(home: Path, settings: dict[str, Any]) -> Path:
    """Check what `party.yaml` would hold; gives its path. Raises `SettingsError`."""
    path = home.absolute() / FILE_NAME
    try:
        PartySettings.model_validate(settings)
    except ValidationError as error:
        raise SettingsError(path, tuple(_mistake(details) for details in error.errors())) from error
    return path


def save_settings(home: Path, settings: dict[str, Any]) -> Path:
    """Check `settings` and write them for the first time. Raises `SettingsError`."""
    path = check_settings(home, settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            yaml.safe_dump(settings, file, sort_keys=False, allow_unicode=True)
    except FileExistsError:
        raise SettingsError(path, (Mistake("", "exists already: edit it, or choose another --home"),)) from None
    except OSError as error:
        raise SettingsError(path, (Mistake("", str(error)),)) from error
    return path
