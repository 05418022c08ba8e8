"""Binds a machine to the world: home, topics, group, transactional slot, and how the process begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from consumers.party import Party, load_share, make_prepare
from consumers.process import run_process
from infra.connection import connect_as
from infra.topics import (
    audit_results_topic,
    commands_topic,
    dead_letter_topic,
    events_topic,
    exchange_topic,
    group_id,
    job_audit_topic,
    registry_topic,
    state_topic,
    transactional_id,
)
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import Stage
from schemas.record import Record
from streams.engine.kafka_log import KafkaLog
from streams.engine.process import StageProcess, SystemClock
from streams.engine.topics import CLIENT_COMMANDS, TASK_EVENTS, StageTopics
from streams.machine import Machine
from streams.machines.audit.protocol import AUDITED_EVENTS


def stage_topics(party: str, stage: str) -> StageTopics:
    """The topics of one stage, of the register of cohorts, or of the auditor, at one party.

    Only the coordinator takes plain commands, it and the auditor follow events of the party, and only the registrar
    writes to the registry.
    """
    is_job, is_audit = stage == Stage.JOB, stage == AUDIT
    no_records: frozenset[type[Record]] = frozenset()
    return StageTopics(
        party=party,
        stage=str(stage),
        commands=commands_topic(stage, party),
        exchange="" if stage == COHORT else exchange_topic(stage, party),
        state=state_topic(stage, party),
        events=events_topic(party),
        registry=registry_topic(party) if stage == Stage.REGISTER else "",
        dead_letter=dead_letter_topic(party),
        audit=job_audit_topic(party),
        exchange_of=partial(exchange_topic, stage),
        commands_of=partial(_commands_of, party),
        plain_commands=CLIENT_COMMANDS if is_job else no_records,
        plain_events=TASK_EVENTS if is_job else AUDITED_EVENTS if is_audit else no_records,
        follows_audit=is_audit,
        results=audit_results_topic(party) if is_audit else "",
        is_ordered=not is_audit,
    )


def run_stage(home: Path, slot: int, stage: str, make_machine: Callable[[Party], Machine]) -> None:
    """Run the stage's process at the party of `home` until SIGTERM. Ends the interpreter with a code and a text."""
    run_process(home, stage, lambda party: make_process(party, slot, stage, make_machine(party)))


def make_process(party: Party, slot: int, stage: str, machine: Machine) -> StageProcess:
    """The engine around a machine, on the party's broker."""
    topics = stage_topics(party.name, stage)
    log = KafkaLog(
        party.settings.bootstrap_servers,
        topics,
        group_id=group_id(stage, party.name),
        transactional_id=transactional_id(stage, party.name, slot),
        properties=connect_as(party.settings, stage),
    )
    prepare = make_prepare(partial(load_share, party))
    return StageProcess(machine, party.name, log, party.keyring, party.objects, prepare, SystemClock(), topics)


def _commands_of(party: str, stage: str) -> str:
    return commands_topic(stage, party)
