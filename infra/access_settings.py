"""How a party's processes show the cluster who they are; see `infra/connection.py` for what becomes of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.strict_yaml import Strict

#: Client properties which `access` of kind `scram` decides.
OWNED_BY_ACCESS = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "enable.ssl.certificate.verification",
        "ssl.endpoint.identification.algorithm",
    }
)


class ScramAccess(Strict):
    """TLS, and SCRAM-SHA-512 (RFC 5802, 7677) with one name and password for each process: `acme.train`."""

    kind: Literal["scram"]
    #: Certificates of whom to believe, in PEM, relative to the home; None: those that the system believes.
    ca: Annotated[str, Field(min_length=1)] | None = None
    #: A JSON file with the password of each role, relative to the home: what the cluster's operators handed out, or all
    #: that a machine which only submits or scores has. None: passwords come from the party's master secret.
    passwords: Annotated[str, Field(min_length=1)] | None = None
    #: One more gives every role a new password; with passwords from the master secret only.
    generation: Annotated[int, Field(ge=1)] = 1


class CustomAccess(Strict):
    """Everything is under `kafka`: another mechanism, or none at all on a cluster that only friends reach."""

    kind: Literal["custom"]


AccessSettings = Annotated[ScramAccess | CustomAccess, Field(discriminator="kind")]
