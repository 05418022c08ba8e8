"""The access rules on a broker that enforces them: accepted, stored, and shown as they were meant."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from infra.access import access_rules, to_bindings
from infra.broker import EmbeddedBroker, run_tool


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker with an authorizer; whoever connects here is its administrator."""
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with EmbeddedBroker(tmp_path, properties=properties) as running:
        yield running


def test_a_broker_takes_every_rule_as_it_is_meant(guarded: EmbeddedBroker) -> None:
    admin = AdminClient({"bootstrap.servers": guarded.bootstrap})
    bindings = to_bindings(access_rules("acme", ("globex",)))
    for future in admin.create_acls(list(bindings)).values():
        future.result(timeout=30)
    #: The client's types want text, its code takes None for anything.
    anything: Any = None
    everything = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    #: The controller has written the rules down when it answers; the broker's authorizer hears of them a moment later.
    deadline = time.monotonic() + 30
    shown_rules: set[AclBinding] = set()
    while shown_rules != set(bindings) and time.monotonic() < deadline:
        shown_rules = set(admin.describe_acls(everything).result(timeout=30))
    assert shown_rules == set(bindings)
    shown = run_tool("kafka-acls", "--bootstrap-server", guarded.bootstrap, "--list", "--principal", "User:acme.train")
    assert "name=vfl.train.exchange.globex.v1, patternType=LITERAL" in shown
    assert "name=vfl.acme.train., patternType=PREFIXED" in shown
    assert "vfl.align.exchange.globex.v1" not in shown
