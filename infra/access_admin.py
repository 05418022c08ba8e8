"""Makes the catalogue's rights on a cluster: names with passwords, and the rules of what each may do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from infra.access import Rule, access_rules, principal_name, roles_of, to_bindings
from infra.access_settings import ScramAccess
from infra.connection import ITERATIONS, derive_password
from infra.party_secrets import open_keys
from infra.settings import PartySettings
from infra.topics import party_topics

REQUEST_TIMEOUT_SECONDS = 30.0
#: Between two looks for rules that were just made.
LOOK_SECONDS = 0.02

#: The client's types want text, its code takes None for anything.
_ANYTHING: Any = None
#: Every rule there is.
EVERYTHING = AclBindingFilter(
    ResourceType.ANY,
    _ANYTHING,
    ResourcePatternType.ANY,
    _ANYTHING,
    _ANYTHING,
    AclOperation.ANY,
    AclPermissionType.ANY,
)


class AccessError(Exception):
    """The cluster refused; the message says what and why."""


@dataclass(frozen=True)
class AccessChange:
    """What was different from the catalogue, and is not any more."""

    added: frozenset[AclBinding]
    removed: frozenset[AclBinding]


def set_passwords(admin: AdminClient, party: str, passwords: Mapping[str, str]) -> None:
    """Let each role of `party` in with its password (role -> password). Raises `AccessError`.

    What travels is salted and stretched (RFC 5802); the cluster never has the password itself.
    """
    changes = [
        UserScramCredentialUpsertion(
            principal_name(party, role),
            ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS),
            password.encode(),
        )
        for role, password in passwords.items()
    ]
    _await(admin.alter_user_scram_credentials(list(changes)), "the password of")


def apply_rules(admin: AdminClient, party: str, rules: Iterable[Rule]) -> AccessChange:
    """Make what is missing and take away what is too much; returns when the cluster goes by it. Raises `AccessError`.

    Looked at are all rules about the party's topics, whoever they are for, and all others of its principals.
    """
    wanted = frozenset(to_bindings(tuple(rules)))
    present = _present(admin, party)
    change = AccessChange(wanted - present, present - wanted)
    if change.added:
        _await(admin.create_acls(sorted(change.added, key=str)), "the rule")
    if change.removed:
        # A rule that is removed is named as a filter that nothing else passes.
        _await(admin.delete_acls([_exactly(each) for each in sorted(change.removed, key=str)]), "removing")
    # The controller has written it down when it answers; the authorizers hear of it a moment later.
    deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
    while _present(admin, party) != wanted:
        if time.monotonic() > deadline:
            raise AccessError("the cluster took the rules, but does not show them: ask its operators")
        time.sleep(LOOK_SECONDS)
    return change


def grant_access(admin: AdminClient, settings: PartySettings) -> AccessChange:
    """The passwords of a party's principals, where they are its own to choose, and all rules about its topics.

    Raises `AccessError`, `SecretsError`.
    """
    if isinstance(settings.access, ScramAccess) and settings.access.passwords is None:
        keys, generation = open_keys(settings), settings.access.generation
        passwords = {role: derive_password(keys, role, generation) for role in roles_of(settings.party)}
        set_passwords(admin, settings.party, passwords)
    return apply_rules(admin, settings.party, access_rules(settings.party, settings.peers))


def revoke(admin: AdminClient, party: str, roles: Iterable[str]) -> AccessChange:
    """Take every right and every password of the party's principals away. Raises `AccessError`."""
    change = apply_rules(admin, party, ())
    names = [principal_name(party, role) for role in roles]
    known = _scram_users(admin)
    deletions = [UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512) for name in names if name in known]
    if deletions:
        _await(admin.alter_user_scram_credentials(list(deletions)), "removing the password of")
    return change


def _scram_users(admin: AdminClient) -> set[str]:
    # Asked about everybody, it answers with one future, which its types do not say.
    asked: Any = admin.describe_user_scram_credentials()
    try:
        found = asked.result(timeout=REQUEST_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise AccessError(f"the names that the cluster knows cannot be read: {error.args[0].str()}") from error
    return set(found)


def _present(admin: AdminClient, party: str) -> frozenset[AclBinding]:
    own = {topic.name for topic in party_topics(party)}
    try:
        found = admin.describe_acls(EVERYTHING).result(timeout=REQUEST_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise AccessError(f"the rules of the cluster cannot be read: {error.args[0].str()}") from error

    def is_ours(each: AclBinding) -> bool:
        if each.restype == ResourceType.TOPIC:
            return each.name in own
        return bool(each.principal.startswith(f"User:{party}."))

    return frozenset(each for each in found if is_ours(each))


def _exactly(each: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        each.restype,
        each.name,
        each.resource_pattern_type,
        each.principal,
        each.host,
        each.operation,
        each.permission_type,
    )


def _await(futures: Mapping[Any, Future[Any]], what: str) -> None:
    problems = []
    for subject, future in futures.items():
        try:
            future.result(timeout=REQUEST_TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                raise AccessError(
                    "the cluster does not let this client set passwords and rules: name its administrator's properties "
                    "with --admin"
                ) from error
            problems.append(f"{what} {subject}: {error.args[0].str()}")
    if problems:
        raise AccessError("the cluster refused:\n  " + "\n  ".join(problems))
