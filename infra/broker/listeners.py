"""Who gets in to the embedded broker, and where: its listeners, and how its administrator connects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.broker.certificates import ADMIN, ADMIN_NAME, BROKER, BROKER_NAME, CA


@dataclass(frozen=True)
class Ports:
    """On 127.0.0.1. `admin` is for the node itself and its administrator."""

    clients: int
    controller: int
    admin: int


def guarded_listeners(ports: Ports, tls: Path) -> dict[str, str]:
    """Clients come with TLS and SCRAM-SHA-512, and may do what a rule allows; see `infra/access.py`.

    The node's own connections and its administrator's have listeners that want a certificate. `tls` is the folder of
    `certificates.py`.
    """
    places = {"CLIENTS": ports.clients, "ADMIN": ports.admin, "CONTROLLER": ports.controller}
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in places.items())
    return {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CLIENTS:SASL_SSL,ADMIN:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "ADMIN",
        "listener.name.admin.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.clients.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(tls / BROKER),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(tls / CA),
        "ssl.enabled.protocols": "TLSv1.3",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:CN={BROKER_NAME};User:CN={ADMIN_NAME}",
    }


def open_listeners(ports: Ports) -> dict[str, str]:
    """Whoever reaches the port may do anything."""
    listeners = f"CLIENTS://127.0.0.1:{ports.clients},CONTROLLER://127.0.0.1:{ports.controller}"
    return {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
    }


def admin_properties(ports: Ports, tls: Path) -> dict[str, str]:
    """How the administrator connects, for librdkafka."""
    return {
        "bootstrap.servers": f"127.0.0.1:{ports.admin}",
        "security.protocol": "SSL",
        "ssl.ca.location": str(tls / CA),
        "ssl.certificate.location": str(tls / ADMIN),
        "ssl.key.location": str(tls / ADMIN),
    }


def admin_tools_properties(ports: Ports, tls: Path) -> dict[str, str]:
    """The same for Kafka's own tools."""
    return {
        "bootstrap.servers": f"127.0.0.1:{ports.admin}",
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(tls / CA),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(tls / ADMIN),
    }
