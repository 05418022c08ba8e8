"""Two parties that do nothing but answer each other: the engine alone. One OS process a party, as in production."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from dataclasses import replace as with_changes
from functools import partial
from pathlib import Path
from types import FrameType

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from infra.object_store import DirectoryStore
from infra.properties import read_properties
from infra.topics import (
    commands_topic,
    dead_letter_topic,
    events_topic,
    exchange_topic,
    group_id,
    job_audit_topic,
    state_topic,
    transactional_id,
)
from schemas.catalogue import register
from schemas.record import Record
from streams import kem
from streams.engine.agreement import Agreement
from streams.engine.kafka_log import KafkaLog
from streams.engine.kafka_settings import Membership
from streams.engine.process import StageProcess, SystemClock
from streams.engine.seal import Keyring
from streams.engine.topics import StageTopics
from streams.machine import Event, Output, Step, ToEvents, ToPeer

STAGE = "align"
GUEST = "echo-guest"
HOST = "echo-host"


@dataclass(frozen=True)
class EchoStart(Record):
    """Client -> guest: exchange so many rounds."""

    job_id: str
    rounds: int


@dataclass(frozen=True)
class EchoCall(Record):
    """Guest -> host, and back."""

    job_id: str
    number: int


@dataclass(frozen=True)
class EchoRound(Record):
    """Event at the guest: this round's answer arrived."""

    job_id: str
    number: int


@dataclass(frozen=True)
class EchoState(Record):
    """What the machine knows."""

    rounds: int


def register_records() -> None:
    """Let this process encode the records above."""
    for cls in (EchoStart, EchoCall, EchoRound, EchoState):
        register(cls)


class EchoMachine:
    """The guest calls, the host answers, the guest notes the round and calls again."""

    stage = STAGE

    def __init__(self, party: str) -> None:
        self.party = party

    def initial(self, key: str) -> EchoState:
        """Nothing to do yet."""
        return EchoState(0)

    def step(self, state: Record, event: Event) -> Step:
        """One hop."""
        assert isinstance(state, EchoState)
        match event.record:
            case EchoStart(job_id, rounds):
                return Step(with_changes(state, rounds=rounds), (ToPeer(HOST, EchoCall(job_id, 0)),))
            case EchoCall() as call if self.party == HOST:
                return Step(state, (ToPeer(event.sender, call),))
            case EchoCall(job_id, number):
                outputs: tuple[Output, ...] = (ToEvents(EchoRound(job_id, number)),)
                if number + 1 < state.rounds:
                    outputs += (ToPeer(HOST, EchoCall(job_id, number + 1)),)
                return Step(state, outputs)
        return Step(state)


def echo_topics(party: str) -> StageTopics:
    """As a stage has them, but that the start comes in plain Avro."""
    return StageTopics(
        party=party,
        stage=STAGE,
        commands=commands_topic(STAGE, party),
        exchange=exchange_topic(STAGE, party),
        state=state_topic(STAGE, party),
        events=events_topic(party),
        registry="",
        dead_letter=dead_letter_topic(party),
        audit=job_audit_topic(party),
        exchange_of=partial(exchange_topic, STAGE),
        commands_of=lambda stage: commands_topic(stage, party),
        plain_commands=frozenset({EchoStart}),
    )


def echo_keyring(party: str) -> Keyring:
    """Keys known to all the world: this measures time."""
    private = {GUEST: b"g" * 32, HOST: b"h" * 32}
    peer = HOST if party == GUEST else GUEST
    public = X25519PrivateKey.from_private_bytes(private[peer]).public_key().public_bytes_raw()
    return Keyring(
        party,
        Agreement(private[party], {peer: public}, b"m" * 32, private[party], {peer: kem.public_key_of(private[peer])}),
        b"s" * 32,
    )


def run_party(party: str, bootstrap: str, folder: Path, membership: Membership = Membership.STATIC) -> None:
    """One party's process, until SIGTERM. A broker that is guarded needs `<party>.properties` in the folder."""
    register_records()
    properties = folder / f"{party}.properties"
    log = KafkaLog(
        bootstrap,
        echo_topics(party),
        group_id=group_id(STAGE, party),
        transactional_id=transactional_id(STAGE, party, 0),
        properties=read_properties(properties) if properties.exists() else {},
        membership=membership,
    )
    process = StageProcess(
        EchoMachine(party),
        party,
        log,
        echo_keyring(party),
        DirectoryStore(folder / party),
        None,
        SystemClock(),
        echo_topics(party),
    )

    def stop(number: int, frame: FrameType | None) -> None:
        process.stop()

    signal.signal(signal.SIGTERM, stop)
    process.run()


if __name__ == "__main__":
    run_party(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Membership(sys.argv[4] if sys.argv[4:] else "static"))
