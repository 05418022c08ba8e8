"""How a process connects to its party's cluster: as whom, with which password, believing which certificates."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from infra.access import principal_name
from infra.access_settings import CustomAccess, ScramAccess
from infra.key_files import OTHERS
from infra.party_secrets import open_keys
from infra.secrets import OwnKeys, SecretsError
from infra.settings import PartySettings

#: Properties of Kafka clients, by their names in librdkafka; `bootstrap.servers` is among them.
Connection = Mapping[str, str | int | bool]

MECHANISM = "SCRAM-SHA-512"
#: Kafka's own default; passwords here are 256 random bits, which no number of iterations makes stronger.
ITERATIONS = 4096


def connect_as(settings: PartySettings, role: str) -> Connection:
    """The client's properties for a process, or for `client`, `operator`, ... of `infra/access.py`.

    Raises `SecretsError` when there is no password for it, or no certificate.
    """
    servers = {"bootstrap.servers": settings.bootstrap_servers}
    access = settings.access
    if isinstance(access, CustomAccess):
        return {**settings.kafka, **servers}
    return {
        **settings.kafka,
        **servers,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": MECHANISM,
        "sasl.username": principal_name(settings.party, role),
        "sasl.password": _password(settings, access, role),
        **_trust(settings, access),
    }


def derive_password(keys: OwnKeys, role: str, generation: int) -> str:
    """The password of a role from the party's master secret: 256 bits, unrelated to everything else made of it."""
    return base64.urlsafe_b64encode(keys.derive(f"broker-password/{generation}/{role}")).decode().rstrip("=")


def tool_properties(connection: Connection) -> dict[str, str]:
    """The same for Kafka's own tools, which call things by other names (`--command-config`)."""
    properties = {name: str(value) for name, value in connection.items()}
    if "sasl.username" in properties:
        name, password = properties.pop("sasl.username"), properties.pop("sasl.password")
        properties["sasl.jaas.config"] = (
            f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{name}" password="{password}";'
        )
    if "ssl.ca.location" in properties:
        properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": properties.pop("ssl.ca.location")}
    return properties


def is_protected(settings: PartySettings) -> bool:
    """Whether what goes to the cluster and comes from it is encrypted."""
    protocol = str(settings.kafka.get("security.protocol", "")).upper()
    return isinstance(settings.access, ScramAccess) or protocol in ("SSL", "SASL_SSL")


def _password(settings: PartySettings, access: ScramAccess, role: str) -> str:
    if access.passwords is None:
        return derive_password(open_keys(settings), role, access.generation)
    path = settings.resolve(access.passwords)
    passwords = read_passwords(path)
    if role not in passwords:
        raise SecretsError(f"{path} has no password for {role!r}: ask the cluster's operators for one")
    return passwords[role]


def read_passwords(path: Path) -> dict[str, str]:
    """Role -> password. Raises `SecretsError`, never with what was read."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise SecretsError(f"{path} can be read or changed by other users: chmod 600 {path}")
            found = json.load(file)
    except FileNotFoundError:
        raise SecretsError(f"{path}, which party.yaml names under access.passwords, is missing") from None
    except (OSError, ValueError):
        raise SecretsError(f'{path} cannot be read: expected JSON such as {{"client": "..."}}') from None
    if not isinstance(found, dict) or not all(isinstance(value, str) and value for value in found.values()):
        raise SecretsError(f'{path}: expected JSON such as {{"client": "..."}}, one text a role')
    return found


def _trust(settings: PartySettings, access: ScramAccess) -> dict[str, str]:
    if access.ca is None:
        return {}
    path = settings.resolve(access.ca)
    read_certificates(path)
    return {"ssl.ca.location": str(path)}


def read_certificates(path: Path) -> bytes:
    """Certificates in PEM, one of them in its time. Raises `SecretsError`."""
    try:
        content = path.read_bytes()
        found = x509.load_pem_x509_certificates(content)
    except (OSError, ValueError) as error:
        raise SecretsError(
            f"{path}, which is to vouch for the broker, holds no certificates in PEM: {error}"
        ) from error
    last = max(certificate.not_valid_after_utc for certificate in found)
    if last < datetime.now(UTC):
        raise SecretsError(
            f"{path}: its certificates expired on {last:%Y-%m-%d}; the cluster's operators have new ones"
        )
    return content
