"""How a view reaches its broker: librdkafka's properties in faust's words."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import faust

#: What is understood; anything else is another client's business.
KNOWN = frozenset(
    {
        "bootstrap.servers",
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
    }
)


def broker_options(connection: Mapping[str, Any]) -> dict[str, Any]:
    """What `faust.App` is told. Raises `ValueError` that names properties which faust's client does not know.

    Without them it might talk in the clear, or to somebody else.
    """
    protocol = str(connection.get("security.protocol", "PLAINTEXT")).upper()
    unknown = sorted(connection.keys() - KNOWN)
    if unknown or protocol not in ("PLAINTEXT", "SASL_SSL"):
        names = unknown or [f"security.protocol={protocol}"]
        raise ValueError(f"cannot use the Kafka client settings {', '.join(names)} of party.yaml")
    servers = str(connection["bootstrap.servers"]).split(",")
    options: dict[str, Any] = {"broker": [f"kafka://{server.strip()}" for server in servers]}
    if protocol == "SASL_SSL":
        options["broker_credentials"] = faust.SASLCredentials(
            username=str(connection["sasl.username"]),
            password=str(connection["sasl.password"]),
            mechanism=str(connection["sasl.mechanism"]),
            ssl_context=ssl.create_default_context(cafile=connection.get("ssl.ca.location")),
        )
    return options
