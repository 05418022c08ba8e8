"""Least privilege: what crosses organisations, and what a process may do inside its own."""

from __future__ import annotations

import shlex

from infra.access import (
    HAND_OVERS,
    REVEALER,
    Operation,
    Resource,
    Rule,
    access_rules,
    crosses_parties,
    render_commands,
    to_bindings,
)
from infra.topics import (
    RECONCILER,
    ROUTER,
    SCORE_HOST,
    SCORING,
    Kind,
    answers_topic,
    exchange_topic,
    group_id,
    party_topics,
    questions_topic,
    statements_topic,
)
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import Stage

PARTIES = ("acme", "globex", "initech")
TOPICS = {topic.name: topic for party in PARTIES for topic in party_topics(party)}
RULES = tuple(
    rule for party in PARTIES for rule in access_rules(party, tuple(peer for peer in PARTIES if peer != party))
)


def _allowed(operation: Operation, name: str) -> set[str]:
    return {rule.principal for rule in RULES if rule.operation is operation and rule.name == name}


def test_only_writing_to_a_door_crosses_parties_and_each_door_has_one_kind_of_writer() -> None:
    crossing = [rule for rule in RULES if crosses_parties(rule, tuple(TOPICS.values()))]
    writers = {
        **{exchange_topic(stage, party): str(stage) for stage in (*Stage, AUDIT) for party in PARTIES},
        **{questions_topic(party): ROUTER for party in PARTIES},
        **{answers_topic(party): SCORE_HOST for party in PARTIES},
        **{statements_topic(party): RECONCILER for party in PARTIES},
    }
    for rule in crossing:
        assert TOPICS[rule.name].kind is Kind.EXCHANGE
        assert rule.operation is Operation.WRITE
        assert rule.principal == f"{rule.party}.{writers[rule.name]}"
    assert len(crossing) == len(PARTIES) * (len(PARTIES) - 1) * (len(Stage) + 4)


def test_a_party_without_peers_touches_nobody_else() -> None:
    assert not [rule for rule in access_rules("acme", ()) if crosses_parties(rule, tuple(TOPICS.values()))]


def test_state_is_for_the_process_of_its_stage_alone() -> None:
    for topic in TOPICS.values():
        if topic.kind is Kind.STATE:
            owner = {f"{topic.party}.{topic.reader}"}
            assert _allowed(Operation.READ, topic.name) == _allowed(Operation.WRITE, topic.name) == owner


def test_what_comes_through_the_door_is_read_by_one_process_and_by_who_reveals_it_to_an_auditor() -> None:
    for topic in TOPICS.values():
        if topic.kind is Kind.EXCHANGE:
            revealers = {f"{topic.party}.revealer"} if topic.reader in list(Stage) else set()
            assert _allowed(Operation.READ, topic.name) == {f"{topic.party}.{topic.reader}"} | revealers


def test_people_and_applications_enter_through_few_doors() -> None:
    doors = {
        "client": {"vfl.job.commands.acme.v1", "vfl.model.serving.acme.v1"},
        "operator": set(),
        "application": {"vfl.score.requests.acme.v1"},
        "loader": {"vfl.features.acme.v1"},
    }
    for name, expected in doors.items():
        written = {r.name for r in RULES if r.principal == f"acme.{name}" and r.operation is Operation.WRITE}
        assert written == expected, name


def test_the_view_reads_events_and_writes_itself_alone() -> None:
    rights = {(rule.operation, rule.resource, rule.name) for rule in RULES if rule.principal == "acme.view"}
    assert rights == {
        (Operation.READ, Resource.TOPIC, "vfl.job.events.acme.v1"),
        (Operation.READ, Resource.TOPIC, "vfl.job.view.acme.v1"),
        (Operation.WRITE, Resource.TOPIC, "vfl.job.view.acme.v1"),
        (Operation.READ, Resource.GROUP, "vfl.acme.view."),
    }
    assert _allowed(Operation.WRITE, "vfl.job.view.acme.v1") == {"acme.view"}


def test_who_reveals_a_job_reads_what_its_stages_took_and_nothing_else() -> None:
    rules = [rule for rule in RULES if rule.principal == "acme.revealer" and rule.resource is Resource.TOPIC]
    assert {rule.operation for rule in rules} == {Operation.READ}
    kinds = {TOPICS[rule.name].kind for rule in rules}
    assert kinds == {Kind.EXCHANGE, Kind.COMMANDS, Kind.EVENTS, Kind.AUDIT}
    assert {TOPICS[rule.name].party for rule in rules} == {"acme"}


def test_no_sealed_topic_is_read_by_people() -> None:
    kinds = (Kind.STATE, Kind.EXCHANGE, Kind.COMMANDS, Kind.ROUTED)
    sealed = {name for name, topic in TOPICS.items() if topic.kind in kinds}
    for rule in RULES:
        if rule.operation is Operation.READ and rule.name in sealed:
            assert rule.principal.split(".")[1] in {*Stage, COHORT, AUDIT, *SCORING, REVEALER}, rule


def test_every_topic_has_a_writer_and_a_reader() -> None:
    for name in TOPICS:
        assert _allowed(Operation.READ, name), name
        assert _allowed(Operation.WRITE, name), name


def test_every_stage_reaches_itself() -> None:
    for stage in Stage:
        assert stage in HAND_OVERS[stage]


def test_only_the_train_stage_and_the_register_of_cohorts_speak_to_each_other() -> None:
    assert _allowed(Operation.WRITE, "vfl.cohort.commands.acme.v1") == {"acme.train"}
    assert HAND_OVERS[COHORT] == (Stage.TRAIN,)
    assert not [name for name in TOPICS if name.startswith("vfl.cohort.exchange.")]


def test_the_auditor_writes_of_nothing_that_it_audits() -> None:
    written = {r.name for r in RULES if r.principal == "acme.audit" and r.operation is Operation.WRITE}
    topics = {name for name in written if name in TOPICS}
    assert topics == {
        "vfl.audit.commands.acme.v1",
        "vfl.audit.state.acme.v1",
        "vfl.audit.results.acme.v1",
        "vfl.deadletter.acme.v1",
        "vfl.audit.exchange.globex.v1",
        "vfl.audit.exchange.initech.v1",
    }
    assert _allowed(Operation.WRITE, "vfl.audit.results.acme.v1") == {"acme.audit"}
    assert _allowed(Operation.READ, "vfl.audit.results.acme.v1") == {"acme.client"}
    assert "acme.audit" not in _allowed(Operation.WRITE, "vfl.job.audit.acme.v1")


def test_a_process_may_use_its_own_group_and_transactional_ids_only() -> None:
    for rule in RULES:
        party, process = rule.principal.split(".")
        if rule.resource is Resource.TRANSACTIONAL_ID:
            assert rule.is_prefix
            assert rule.name == f"vfl.{party}.{process}."
        elif rule.resource is Resource.GROUP and rule.operation is Operation.READ:
            assert rule.is_prefix
            assert rule.name == f"vfl.{party}.{process}."
            assert group_id(process, party).startswith(rule.name)


def test_no_party_is_the_beginning_of_another_in_a_prefix_rule() -> None:
    prefixes = [rule.name for rule in (*access_rules("acme", ()), *access_rules("acme-2", ())) if rule.is_prefix]
    for one in prefixes:
        for other in prefixes:
            assert one == other or not other.startswith(one)


def test_commands_say_the_same_as_the_rules() -> None:
    rules = access_rules("acme", ("globex",))
    commands = render_commands(rules, "broker.example:9092")
    assert len(commands) == len(to_bindings(rules)) == len(rules)
    read_back = set()
    for command in commands:
        words = shlex.split(command)
        options = dict(zip(words[4::2], words[5::2], strict=True))
        resource = next(resource for resource in Resource if f"--{resource.value}" in options)
        read_back.add(
            Rule(
                options["--allow-principal"].removeprefix("User:"),
                Operation(options["--operation"]),
                resource,
                options[f"--{resource.value}"],
                options["--resource-pattern-type"] == "prefixed",
            )
        )
    assert read_back == set(rules)
    doors = [command for command in commands if exchange_topic(Stage.TRAIN, "acme") in command]
    assert any("User:globex.train" in command for command in doors)
    assert not any(exchange_topic(Stage.TRAIN, "globex") in command for command in commands), "its owner opens it"
