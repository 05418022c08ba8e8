"""Every principal against every topic and group: what the broker allows is what the catalogue says, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AclOperation, AdminClient

from infra.access import (
    APPLICATION,
    CLIENT,
    OPERATOR,
    Operation,
    Resource,
    Rule,
    access_rules,
    principal_name,
    roles_of,
)
from infra.access_admin import apply_rules, grant_access
from infra.broker import EmbeddedBroker, run_tool
from infra.broker.certificates import CA, prepare_certificates
from infra.connection import Connection, connect_as
from infra.federation_local import found_together
from infra.secrets import create_secrets
from infra.settings import PartySettings, load_settings, save_settings
from infra.topic_admin import create_topics
from infra.topics import exchange_topic, group_id, party_topics, registry_topic
from producers.cli import main as cli
from producers.topic_reader import QUIET, BrokerUnavailableError, check_topics
from schemas.jobs import Stage

SECONDS = 30

#: What Kafka tells of a right, in the catalogue's words. Who may read or write may describe as well.
TOLD = {
    AclOperation.READ: Operation.READ,
    AclOperation.WRITE: Operation.WRITE,
    AclOperation.DESCRIBE: Operation.DESCRIBE,
    AclOperation.DESCRIBE_CONFIGS: Operation.DESCRIBE_CONFIGS,
}

Right = tuple[str, str, str]


class Scene:
    """Two parties of one federation, and a third that has nothing to do with them, on a guarded broker."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, names: Collection[str]) -> None:
        self.broker = broker
        self.admin = AdminClient(broker.admin_connection, logger=QUIET)
        self.settings: dict[str, PartySettings] = {}
        acme, globex, self.stranger = names
        self.members = (acme, globex)
        for name, peers in ((acme, [globex]), (globex, [acme]), (self.stranger, [])):
            save_settings(
                folder / name,
                {
                    "party": name,
                    "bootstrap_servers": broker.bootstrap,
                    "access": {"kind": "scram", "ca": str(broker.ca_file)},
                    "peers": peers,
                    "topics": {"partitions": 1},
                },
            )
            create_secrets(folder / name, name)
            self.settings[name] = load_settings(folder / name)
        found_together([folder / name for name in self.members], "matrix")
        for name, settings in self.settings.items():
            create_topics(self.admin, party_topics(name, 1))
            grant_access(self.admin, settings)
        # What is told of a group is told of one that exists: a position makes it.
        place = [KafkaPartition(registry_topic(acme), 0, 0)]
        for group in self.groups:
            asked = self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, place)])
            asked[group].result(timeout=SECONDS)

    @property
    def topics(self) -> list[str]:
        return [topic.name for name in self.settings for topic in party_topics(name, 1)]

    @property
    def groups(self) -> list[str]:
        return [group_id(role, party) for party in self.settings for role in roles_of(party)] + ["somebody-elses"]

    def rules(self) -> list[Rule]:
        return [rule for name, each in self.settings.items() for rule in access_rules(name, each.peers)]

    def connect(self, party: str, role: str) -> AdminClient:
        return AdminClient(dict(connect_as(self.settings[party], role)), logger=QUIET)


@pytest.fixture(scope="module")
def scene(guarded_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(guarded_broker, tmp_path_factory.mktemp("matrix"), ("acme-m", "globex-m", "initech-m"))


def _principals(scene: Scene) -> list[tuple[str, str]]:
    return [(party, role) for party in scene.settings for role in roles_of(party)]


def test_the_broker_allows_what_the_catalogue_says_and_nothing_else(scene: Scene) -> None:
    """(Principal, topic, operation) and (principal, group, operation), all of them, as the authorizer answers."""
    expected: set[Right] = set()
    for rule in scene.rules():
        if rule.resource is Resource.TRANSACTIONAL_ID:
            continue
        implied = {Operation.DESCRIBE} if rule.operation in (Operation.READ, Operation.WRITE) else set()
        names = [group for group in scene.groups if group.startswith(rule.name)] if rule.is_prefix else [rule.name]
        assert names, rule
        expected |= {(rule.principal, name, operation) for operation in {rule.operation, *implied} for name in names}
    found: set[Right] = set()
    principals = _principals(scene)
    for party, role in principals:
        client, name = scene.connect(party, role), principal_name(party, role)
        found |= {(name, *right) for right in _topic_rights(client, scene.topics)}
        found |= {(name, *right) for right in _group_rights(client, scene.groups)}
    assert found == expected
    assert len(principals) > 40
    assert len(scene.topics) > 60


def test_the_stock_tool_shows_the_rules_to_the_administrator(scene: Scene) -> None:
    acme, globex = scene.members
    address = ("--bootstrap-server", _admin_address(scene), "--command-config", str(scene.broker.admin_tools_file))
    shown = run_tool("kafka-acls", *address, "--list", "--principal", f"User:{acme}.{Stage.TRAIN}")
    assert f"name={exchange_topic(Stage.TRAIN, globex)}, patternType=LITERAL" in shown
    assert f"name=vfl.{acme}.{Stage.TRAIN}., patternType=PREFIXED" in shown
    assert exchange_topic(Stage.ALIGN, globex) not in shown


def test_a_program_of_somebody_else_gets_in_with_the_file_that_was_made_for_it(scene: Scene, tmp_path: Path) -> None:
    """The examples, which import nothing of Isthmus, as client of jobs and as application."""
    acme, _ = scene.members
    files = {role: tmp_path / f"{role}.properties" for role in (CLIENT, APPLICATION)}
    home = str(scene.settings[acme].home)
    for role, file in files.items():
        made = CliRunner().invoke(cli, ["topics", "credentials", role, "--out", str(file), "--home", home])
        assert made.exit_code == 0, made.output
        assert file.stat().st_mode & 0o777 == 0o600
        assert str(connect_as(scene.settings[acme], role)["sasl.password"]) not in made.output
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"name": "x", "guest": {"party": acme, "dataset": "x"}, "label": "y", "hosts": []}))
    assert "submitted" in _run("submit_job", files[CLIENT], "--job-id", "one", str(spec)).stdout
    assert _run("read_events", files[CLIENT], "--party", acme).returncode == 0
    asked = ("--party", acme, "--model", "m", "--deadline-ms", "1", "someone")
    assert "no outcome of request" in _run("score_request", files[APPLICATION], *asked).stderr
    # Each file is good for its own part only.
    assert "authorization failed" in _run("submit_job", files[APPLICATION], "--job-id", "two", str(spec)).stderr
    assert _run("score_request", files[CLIENT], *asked).returncode != 0


def _run(example: str, properties: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"examples.{example}", "--properties", str(properties), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS * 2)


def _admin_address(scene: Scene) -> str:
    return str(scene.broker.admin_connection["bootstrap.servers"])


def _topic_rights(client: AdminClient, topics: Collection[str]) -> set[tuple[str, Operation]]:
    """Who has no right at all is not even told whether the topic is there."""
    asked: dict[str, Any] = client.describe_topics(
        TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=SECONDS
    )
    return _rights(asked, KafkaError.TOPIC_AUTHORIZATION_FAILED)


def _group_rights(client: AdminClient, groups: Collection[str]) -> set[tuple[str, Operation]]:
    asked: dict[str, Any] = client.describe_consumer_groups(
        list(groups), include_authorized_operations=True, request_timeout=SECONDS
    )
    return _rights(asked, KafkaError.GROUP_AUTHORIZATION_FAILED)


def _rights(asked: Mapping[str, Any], refusal: int) -> set[tuple[str, Operation]]:
    rights = set()
    for name, future in asked.items():
        error = future.exception(timeout=SECONDS)
        if error is None:
            rights |= {(name, TOLD[operation]) for operation in future.result().authorized_operations}
        elif error.args[0].code() != refusal:
            raise error
    return rights


def _produce(connection: Connection, topic: str, transactional_id: str = "") -> None:
    """Write one record, in a transaction if there is a name for it. Raises `KafkaException`."""
    options = {"transactional.id": transactional_id} if transactional_id else {}
    producer = Producer({**connection, **options, "message.timeout.ms": SECONDS * 1000}, logger=QUIET)
    failures: list[KafkaError] = []
    if transactional_id:
        producer.init_transactions(SECONDS)
        producer.begin_transaction()
    producer.produce(topic, b"x", on_delivery=lambda error, message: failures.append(error) if error else None)
    assert producer.flush(SECONDS) == 0
    if failures:
        raise KafkaException(failures[0])
    if transactional_id:
        producer.commit_transaction(SECONDS)


def _consume(connection: Connection, topic: str, group: str) -> None:
    """Join the group and read one record. Raises `KafkaException`."""
    consumer = Consumer({**connection, "group.id": group, "auto.offset.reset": "earliest"}, logger=QUIET)
    try:
        consumer.subscribe([topic])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return
            if error.code() in DENIALS:
                raise KafkaException(error)
        raise AssertionError(f"nothing came from {topic}")
    finally:
        consumer.close()


DENIALS = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


def test_a_right_is_good_for_what_it_says_and_its_absence_stops_it(scene: Scene) -> None:
    """The same with real records: a door from outside, a stage's transactions, a group."""
    acme, globex = scene.members
    door = exchange_topic(Stage.TRAIN, globex)
    trainer = connect_as(scene.settings[acme], Stage.TRAIN)
    _produce(trainer, door, f"vfl.{acme}.{Stage.TRAIN}.0")
    _consume(connect_as(scene.settings[globex], Stage.TRAIN), door, group_id(Stage.TRAIN, globex))
    for connection, topic, name in (
        # Another stage's door, another stage at this one, a stranger, another's transactions, the registry of a peer.
        (trainer, exchange_topic(Stage.ALIGN, globex), ""),
        (connect_as(scene.settings[acme], Stage.ALIGN), door, ""),
        (connect_as(scene.settings[scene.stranger], Stage.TRAIN), door, ""),
        (trainer, door, f"vfl.{globex}.{Stage.TRAIN}.0"),
        (connect_as(scene.settings[acme], Stage.REGISTER), registry_topic(globex), ""),
    ):
        with pytest.raises(KafkaException) as caught:
            _produce(connection, topic, name)
        assert "uthorization failed" in caught.value.args[0].str(), caught.value
    for party, role in ((acme, Stage.TRAIN), (globex, Stage.ALIGN), (globex, OPERATOR)):
        with pytest.raises(KafkaException):
            _consume(connect_as(scene.settings[party], role), door, group_id(Stage.TRAIN, globex))


def test_who_gives_the_wrong_password_or_none_is_told_so(scene: Scene, tmp_path: Path) -> None:
    acme, _ = scene.members
    good = dict(connect_as(scene.settings[acme], OPERATOR))
    check_topics(good, (registry_topic(acme),))
    for change, words in (
        ({"sasl.password": "wrong"}, "does not accept the name and password of acme-m.operator"),
        ({"sasl.username": "nobody.operator"}, "does not accept the name and password of nobody.operator"),
        ({"security.protocol": "PLAINTEXT"}, "wants `access` that party.yaml does not say"),
        ({"ssl.ca.location": str(_other_authority(tmp_path))}, "its certificate is not one that"),
    ):
        with pytest.raises(BrokerUnavailableError, match=words):
            check_topics(good | change, ())


def _topics(scene: Scene, party: str, *arguments: str, code: int = 0) -> str:
    """`isthmus topics ...` in the party's home."""
    done = CliRunner().invoke(cli, ["topics", *arguments, "--home", str(scene.settings[party].home)])
    assert done.exit_code == code, done.output
    return done.output


def test_rules_are_printed_made_once_and_refused_to_who_may_not(scene: Scene, tmp_path: Path) -> None:
    acme, _ = scene.members
    admin = ("--admin", str(scene.broker.admin_file))
    printed = _topics(scene, acme, "acls").splitlines()
    rules = access_rules(acme, scene.settings[acme].peers)
    assert len(printed) == len(rules) and all(line.startswith("kafka-acls --bootstrap-server") for line in printed)
    assert f"{len(rules)} rules: 0 made, 0 taken away" in _topics(scene, acme, "acls", "--apply", *admin)
    # Its own operator may look at topics, and make nothing.
    assert "matches" in _topics(scene, acme, "list")
    assert "name its administrator's properties with --admin" in _topics(scene, acme, "acls", "--apply", code=3)
    assert "contradict each other" in _topics(scene, acme, "acls", "--apply", "--revoke", code=1)
    absent, empty = tmp_path / "absent.properties", tmp_path / "empty.properties"
    empty.write_text("# nothing\n")
    assert "cannot be used" in _topics(scene, acme, "list", "--admin", str(absent), code=1)
    assert "does not say bootstrap.servers" in _topics(scene, acme, "list", "--admin", str(empty), code=1)
    out = tmp_path / "x.properties"
    assert "no role 'king'; there are align, application" in _topics(
        scene, acme, "credentials", "king", "--out", str(out), code=1
    )
    assert not out.exists()


def _other_authority(folder: Path) -> Path:
    prepare_certificates(folder / "tls")
    return folder / "tls" / CA


def test_a_party_that_is_revoked_is_locked_out_and_its_peers_doors_close(
    guarded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    scene = Scene(guarded_broker, tmp_path, ("acme-r", "globex-r", "initech-r"))
    acme, globex = scene.members
    door, trainer = exchange_topic(Stage.TRAIN, globex), connect_as(scene.settings[acme], Stage.TRAIN)
    _produce(trainer, door)
    # The peer takes its name off its list: the door closes for it, and for nobody else.
    change = apply_rules(scene.admin, globex, access_rules(globex, ()))
    assert {binding.principal.split(".")[0] for binding in change.removed} == {f"User:{acme}"}
    assert not change.added
    with pytest.raises(KafkaException, match="authorization failed"):
        _produce(trainer, door)
    told = _topics(scene, acme, "acls", "--revoke", "--admin", str(guarded_broker.admin_file))
    assert "it is locked out" in told
    with pytest.raises(BrokerUnavailableError, match="does not accept the name and password"):
        check_topics(trainer, ())
    check_topics(connect_as(scene.settings[globex], CLIENT), (registry_topic(globex),))


def test_a_new_generation_of_passwords_replaces_the_old_one(guarded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    scene = Scene(guarded_broker, tmp_path, ("acme-g", "globex-g", "initech-g"))
    settings = scene.settings[scene.stranger]
    old = connect_as(settings, CLIENT)
    newer = settings.model_copy(update={"access": settings.access.model_copy(update={"generation": 2})})
    assert connect_as(newer, CLIENT)["sasl.password"] != old["sasl.password"]
    with pytest.raises(BrokerUnavailableError):
        check_topics(connect_as(newer, CLIENT), ())
    grant_access(scene.admin, newer)
    check_topics(connect_as(newer, CLIENT), (registry_topic(scene.stranger),))
    with pytest.raises(BrokerUnavailableError):
        check_topics(old, ())
