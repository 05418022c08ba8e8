"""Who may do what on a cluster, derived from the catalogue: least privilege, as data.

Principals are named after a party and what it runs: `acme.train` is its train process, `acme.view` keeps the live view
of jobs, `acme.client` submits and watches them, `acme.operator` looks at lag and dead letters. Only a stage process or
the auditor crosses organisations, and only by writing to the exchange topics of its own stage at its peers.

Doors are opened by those whose they are: the rules of a party are its own principals' rights on its own topics, and its
peers' rights to write to its exchange topics. Who is not among the peers any more has none.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from infra.topics import (
    HISTORY,
    JOINER,
    PARITY,
    RECONCILER,
    ROUTER,
    SCORE,
    SCORE_HOST,
    SCORE_VIEW,
    SCORING,
    Kind,
    Topic,
    answers_topic,
    audit_results_topic,
    check_party_name,
    commands_topic,
    dead_letter_topic,
    events_topic,
    exchange_topic,
    features_topic,
    group_id,
    job_audit_topic,
    party_topics,
    questions_topic,
    registry_topic,
    requests_topic,
    results_topic,
    routed_topic,
    score_audit_topic,
    serving_topic,
    state_topic,
    statements_topic,
    view_topic,
)
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import PIPELINE, Stage

CLIENT, OPERATOR, VIEW = "client", "operator", "view"
#: Reveals a job to an auditor.
REVEALER = "revealer"
#: What applications use, and what loads features.
APPLICATION, LOADER = "application", "loader"
#: Stage -> the stages of the same party that it sends records to, itself included (continuations, timers).
HAND_OVERS: dict[str, tuple[str, ...]] = {
    Stage.JOB: (Stage.JOB, *PIPELINE),
    Stage.ALIGN: (Stage.ALIGN, Stage.TRAIN, Stage.EVALUATE),
    Stage.TRAIN: (Stage.TRAIN, COHORT, Stage.EVALUATE, Stage.REGISTER),
    COHORT: (Stage.TRAIN,),
    Stage.EVALUATE: (Stage.EVALUATE, Stage.REGISTER),
    Stage.REGISTER: (Stage.REGISTER,),
}


class Operation(StrEnum):
    """What a rule allows; Kafka lets whoever may read or write a topic describe it as well."""

    READ = "Read"
    WRITE = "Write"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"


class Resource(StrEnum):
    """What a rule is about."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


@dataclass(frozen=True, order=True)
class Rule:
    """`principal` may do `operation` on the resource; nothing else is allowed."""

    principal: str
    operation: Operation
    resource: Resource
    name: str
    #: `name` is the beginning of the names that are meant.
    is_prefix: bool = False

    @property
    def party(self) -> str:
        """The organisation of the principal."""
        return self.principal.split(".")[0]


def principal_name(party: str, process: str) -> str:
    """How the process (a stage, `view`, `client` or `operator`) of `party` is known to the cluster."""
    check_party_name(party)
    return f"{party}.{process}"


def access_rules(party: str, peers: tuple[str, ...]) -> tuple[Rule, ...]:
    """Every right that `party` has on what is its own, and that its peers have there, sorted."""
    own = {topic.name for topic in party_topics(party)}
    rules = {rule for rule in _rights(party, peers) if rule.resource is not Resource.TOPIC or rule.name in own}
    for peer in peers:
        rules |= {rule for rule in _rights(peer, (party,)) if rule.resource is Resource.TOPIC and rule.name in own}
    return tuple(sorted(rules))


def roles_of(party: str) -> tuple[str, ...]:
    """What the principals of a party are named after: its processes, and who else connects in its name; sorted."""
    return tuple(sorted({rule.principal.partition(".")[2] for rule in _rights(party, ())}))


def _rights(party: str, peers: tuple[str, ...]) -> set[Rule]:
    """Every right that the principals of `party` need, wherever."""
    rules = {rule for stage in Stage for rule in _stage_rules(party, stage, peers)}
    rules |= _stage_rules(party, COHORT, ())
    rules |= _auditor_rules(party, peers)
    rules |= _view_rules(party) | _client_rules(party) | _operator_rules(party) | _revealer_rules(party)
    rules |= _scoring_rules(party, peers)
    # Groups are named after who is in them: `vfl.acme.train.v1`, `vfl.acme.application.reports`, ...
    return rules | {
        Rule(principal, Operation.READ, Resource.GROUP, f"vfl.{principal}.", is_prefix=True)
        for principal in {rule.principal for rule in rules}
    }


def _stage_rules(party: str, stage: str, peers: tuple[str, ...]) -> set[Rule]:
    principal = principal_name(party, stage)
    own = [topic for topic in party_topics(party) if topic.reader == stage]
    reads = {topic.name for topic in own}
    writes = {topic.name for topic in own if topic.kind is Kind.STATE}
    writes |= {commands_topic(target, party) for target in HAND_OVERS[stage]}
    writes |= {events_topic(party), job_audit_topic(party), dead_letter_topic(party)}
    writes |= {exchange_topic(stage, peer) for peer in peers}
    if stage == Stage.JOB:
        # The coordinator learns from the events of the other stages how they go.
        reads.add(events_topic(party))
    if stage == Stage.REGISTER:
        reads.add(registry_topic(party))
        writes.add(registry_topic(party))
    rules = {Rule(principal, Operation.READ, Resource.TOPIC, name) for name in reads}
    rules |= {Rule(principal, Operation.WRITE, Resource.TOPIC, name) for name in writes}
    return rules | _engine_rules(party, stage)


def _auditor_rules(party: str, peers: tuple[str, ...]) -> set[Rule]:
    principal = principal_name(party, AUDIT)
    own = {topic.name for topic in party_topics(party) if topic.reader == AUDIT}
    # It follows what crossed and how jobs go, and writes of neither.
    reads = {*own, job_audit_topic(party), events_topic(party)}
    writes = {commands_topic(AUDIT, party), state_topic(AUDIT, party), audit_results_topic(party)}
    writes |= {dead_letter_topic(party), *(exchange_topic(AUDIT, peer) for peer in peers)}
    rules = {Rule(principal, Operation.READ, Resource.TOPIC, name) for name in reads}
    rules |= {Rule(principal, Operation.WRITE, Resource.TOPIC, name) for name in writes}
    return rules | _engine_rules(party, AUDIT)


def _engine_rules(party: str, stage: str) -> set[Rule]:
    """The transactional ids of a process of the engine."""
    principal = principal_name(party, stage)
    rules: set[Rule] = set()
    # One transactional id a slot: `vfl.acme.train.0`, `vfl.acme.train.1`, ...
    slots = f"vfl.{party}.{stage}."
    for operation in (Operation.WRITE, Operation.DESCRIBE):
        rules.add(Rule(principal, operation, Resource.TRANSACTIONAL_ID, slots, is_prefix=True))
    return rules


def _view_rules(party: str) -> set[Rule]:
    principal = principal_name(party, VIEW)
    return {
        Rule(principal, Operation.READ, Resource.TOPIC, events_topic(party)),
        # It restores itself from what it wrote.
        Rule(principal, Operation.READ, Resource.TOPIC, view_topic(party)),
        Rule(principal, Operation.WRITE, Resource.TOPIC, view_topic(party)),
    }


def _revealer_rules(party: str) -> set[Rule]:
    """It reads what the stages took, sealed as it lies there, and what the party wrote down of it."""
    principal = principal_name(party, REVEALER)
    topics = {job_audit_topic(party), events_topic(party)}
    topics |= {topic(stage, party) for stage in Stage for topic in (commands_topic, exchange_topic)}
    return {Rule(principal, Operation.READ, Resource.TOPIC, name) for name in topics}


def _client_rules(party: str) -> set[Rule]:
    principal = principal_name(party, CLIENT)
    rules = {Rule(principal, Operation.WRITE, Resource.TOPIC, commands_topic(Stage.JOB, party))}
    audit = (job_audit_topic(party), audit_results_topic(party))
    for name in (events_topic(party), *audit, registry_topic(party), view_topic(party)):
        rules.add(Rule(principal, Operation.READ, Resource.TOPIC, name))
    return rules


def _scoring_rules(party: str, peers: tuple[str, ...]) -> set[Rule]:
    dead = dead_letter_topic(party)
    features, serving, registry = features_topic(party), serving_topic(party), registry_topic(party)
    requests, routed, results = requests_topic(party), routed_topic(party), results_topic(party)
    state, audit = state_topic(SCORE, party), score_audit_topic(party)
    questions = [questions_topic(peer) for peer in peers]
    answers = [answers_topic(peer) for peer in peers]
    statements = [statements_topic(peer) for peer in peers]
    #: Principal -> topics it reads, topics it writes.
    rights: dict[str, tuple[list[str], list[str]]] = {
        ROUTER: ([requests, registry, serving, features], [routed, *questions, dead]),
        JOINER: ([routed, answers_topic(party), state], [state, results, audit, dead]),
        SCORE_HOST: ([questions_topic(party), registry, features], [audit, *answers, dead]),
        PARITY: ([registry, serving, events_topic(party), results, audit], [requests, serving]),
        HISTORY: ([results, audit], [dead]),
        RECONCILER: ([statements_topic(party)], [*statements, dead]),
        SCORE_VIEW: ([results, serving], []),
        APPLICATION: ([results], [requests]),
        LOADER: ([features], [features]),
    }
    rules: set[Rule] = set()
    for process, (reads, writes) in rights.items():
        principal = principal_name(party, process)
        rules |= {Rule(principal, Operation.READ, Resource.TOPIC, name) for name in reads}
        rules |= {Rule(principal, Operation.WRITE, Resource.TOPIC, name) for name in writes}
    # An alias is set by whoever may submit jobs.
    client = principal_name(party, CLIENT)
    rules |= {Rule(client, operation, Resource.TOPIC, serving) for operation in (Operation.READ, Operation.WRITE)}
    for operation in (Operation.WRITE, Operation.DESCRIBE):
        slots = f"vfl.{party}.{JOINER}."
        rules.add(Rule(principal_name(party, JOINER), operation, Resource.TRANSACTIONAL_ID, slots, is_prefix=True))
    return rules


def _operator_rules(party: str) -> set[Rule]:
    principal = principal_name(party, OPERATOR)
    rules = {Rule(principal, Operation.DESCRIBE, Resource.TOPIC, topic.name) for topic in party_topics(party)}
    rules |= {
        Rule(principal, Operation.DESCRIBE, Resource.GROUP, group_id(stage, party))
        for stage in (*Stage, COHORT, AUDIT, VIEW, *SCORING)
    }
    rules |= {Rule(principal, Operation.DESCRIBE_CONFIGS, Resource.TOPIC, topic.name) for topic in party_topics(party)}
    for name in (events_topic(party), registry_topic(party), view_topic(party), dead_letter_topic(party)):
        rules.add(Rule(principal, Operation.READ, Resource.TOPIC, name))
    return rules


def crosses_parties(rule: Rule, topics: tuple[Topic, ...]) -> bool:
    """Whether the rule lets a principal touch a topic (of the catalogue's `topics`) of another party."""
    owners = {topic.name: topic.party for topic in topics}
    return rule.resource is Resource.TOPIC and owners[rule.name] != rule.party


def render_commands(rules: tuple[Rule, ...], bootstrap_servers: str) -> tuple[str, ...]:
    """The rules as `kafka-acls` commands for a shell."""
    commands = []
    for rule in rules:
        words = ["kafka-acls", "--bootstrap-server", bootstrap_servers, "--add"]
        words += ["--allow-principal", f"User:{rule.principal}", "--operation", rule.operation.value]
        words += [f"--{rule.resource.value}", rule.name]
        words += ["--resource-pattern-type", "prefixed" if rule.is_prefix else "literal"]
        commands.append(shlex.join(words))
    return tuple(commands)


def to_bindings(rules: tuple[Rule, ...]) -> tuple[AclBinding, ...]:
    """The rules as what `AdminClient.create_acls` takes; from any host, for Kafka knows hosts by address only."""
    types = {
        Resource.TOPIC: ResourceType.TOPIC,
        Resource.GROUP: ResourceType.GROUP,
        Resource.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
    }
    operations = {
        Operation.READ: AclOperation.READ,
        Operation.WRITE: AclOperation.WRITE,
        Operation.DESCRIBE: AclOperation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS: AclOperation.DESCRIBE_CONFIGS,
    }
    return tuple(
        AclBinding(
            types[rule.resource],
            rule.name,
            ResourcePatternType.PREFIXED if rule.is_prefix else ResourcePatternType.LITERAL,
            f"User:{rule.principal}",
            "*",
            operations[rule.operation],
            AclPermissionType.ALLOW,
        )
        for rule in rules
    )
