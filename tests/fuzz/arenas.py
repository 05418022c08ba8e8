"""One party of an honest job, at every moment of it: where a hostile peer may begin.

An arena is deterministic: parties' secrets and tables are fixed, so a script that was found once means the same again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from schemas.audit_statements import AUDIT
from schemas.audit_states import AuditedJob
from schemas.cohorts import COHORT
from schemas.jobs import PIPELINE, Privacy, ProposeJob, Role, SubmitJob
from schemas.record import Record
from streams.machine import Event, Machine, Step
from streams.machines.align.protocol import TRANSITIONS as ALIGN
from streams.machines.audit import TRANSITIONS as AUDITING
from streams.machines.audit import AuditMachine
from streams.machines.audit.protocol import AUDITOR
from streams.machines.evaluate.protocol import TRANSITIONS as EVALUATE
from streams.machines.job import JobMachine, Policy
from streams.machines.job.machine import phase_of as job_phase_of
from streams.machines.job.protocol import TRANSITIONS as JOB
from streams.machines.register.protocol import TRANSITIONS as REGISTER
from streams.machines.train import TRANSITIONS as TRAIN
from streams.machines.transition import Transition
from tests.machines import align_cases, audit_cases, job_world, test_evaluate, test_register, train_cases
from tests.machines.driver import Driver

#: Somebody with whom keys were exchanged, but who has no part in the job.
STRANGER = "stranger"


@dataclass(frozen=True)
class Moment:
    """A state of the party, and what it was told next."""

    state: Record
    event: Event


@dataclass(frozen=True)
class Arena:
    """A party's machine, and the honest job that it went through."""

    name: str
    machine: Machine
    party: str
    peer: str
    role: str
    job_id: str
    transitions: Sequence[Transition]
    moments: tuple[Moment, ...]
    last: Record

    def state_at(self, place: int) -> Record:
        """The state before the honest event of this number; after all of them."""
        return self.moments[place].state if place < len(self.moments) else self.last

    @property
    def heard(self) -> list[Record]:
        """What the peer sends when it is honest."""
        return [moment.event.record for moment in self.moments if moment.event.sender == self.peer]

    def phase_of(self, state: Record) -> str:
        """As the protocol's table calls it."""
        if self.machine.stage == "job":
            return str(job_phase_of(state))
        if isinstance(state, AuditedJob):
            return "over" if state.is_over else "running"
        name = type(state).__name__
        return "waiting" if name.endswith("Waiting") else str(getattr(state, "phase", "ended"))


class Prepared:
    """A coordinator with what its process would have loaded for it."""

    def __init__(self, machine: Machine, resource: object) -> None:
        self._machine = machine
        self._resource = resource
        self.stage = machine.stage

    def initial(self, key: str) -> Record:
        return self._machine.initial(key)

    def step(self, state: Record, event: Event) -> Step:
        if isinstance(event.record, SubmitJob | ProposeJob):
            event = replace(event, resource=self._resource)
        return self._machine.step(state, event)


def _arena(
    name: str, driver: Driver, party: str, peer: str, role: str, transitions: Sequence[Transition]
) -> Callable[[], Arena]:
    """The arena of a party after the driver's run, which must have been watched from the beginning."""
    moments: list[Moment] = []
    # The register of cohorts hears no peer.
    place = next(key for key in driver.machines if key[0] == party and key[1] != COHORT)

    def watch(machine: Machine, state: Record, event: Event) -> None:
        if machine is driver.machines[place]:
            moments.append(Moment(state, event))

    driver.inspect = watch

    def finish() -> Arena:
        last = driver.states[place]
        return Arena(name, driver.machines[place], party, peer, role, driver.job_id, transitions, tuple(moments), last)

    return finish


def _align(party: str) -> Arena:
    driver = align_cases.build(align_cases.two_tables())
    peer = "host" if party == "guest" else "guest"
    finish = _arena(f"align-{party}", driver, party, peer, party, ALIGN)
    driver.run()
    return finish()


def _train(role: str, privacy: Privacy) -> Arena:
    case = train_cases.make_case(rows=40, guest_columns=4, host_columns=4, max_passes=3, privacy=privacy)
    driver = train_cases.make_driver(case, chunk_rows=16)
    guest, host = train_cases.GUEST, train_cases.HOST
    party, peer = (guest, host) if role == "guest" else (host, guest)
    finish = _arena(f"train-{role}-{privacy}", driver, party, peer, role, TRAIN)
    driver.run()
    return finish()


def _evaluate(party: str) -> Arena:
    driver = test_evaluate.build(test_evaluate.make_world(joint=60, strangers=5), chunk_rows=7)
    peer = "host" if party == "guest" else "guest"
    finish = _arena(f"evaluate-{party}", driver, party, peer, party, EVALUATE)
    driver.run()
    return finish()


def _register(party: str) -> Arena:
    driver = test_register.build()
    peer = "host" if party == "guest" else "guest"
    finish = _arena(f"register-{party}", driver, party, peer, party, REGISTER)
    driver.run()
    return finish()


def _job(role: str, *, is_asking: bool = False) -> Arena:
    guest, host = job_world.GUEST, job_world.HOST
    policies = {guest: Policy(auto_approve=True), host: Policy(auto_approve=not is_asking)}
    machines: dict[tuple[str, str], Machine] = {
        (party, "job"): Prepared(JobMachine(party, policy), job_world.dataset(party))
        for party, policy in policies.items()
    }
    driver = Driver(machines, job_world.JOB)
    party, peer = (guest, host) if role == "guest" else (host, guest)
    suffix = "-asking" if is_asking else ""
    finish = _arena(f"job-{role}{suffix}", driver, party, peer, role, JOB)
    driver.send(guest, "job", SubmitJob(job_world.JOB, job_world.SPEC))
    driver.run()
    for stage in PIPELINE if not is_asking else ():
        for name in policies:
            driver.send(name, "job", job_world.succeeded(name, stage))
        driver.run()
    return finish()


class AnySigner:
    """A peer that has its own key, which the fuzzer lacks, can sign whatever it likes."""

    def sign(self, message: bytes) -> bytes:
        return audit_cases.Keys(audit_cases.GLOBEX).sign(message)

    def has_signed(self, peer: str, message: bytes, signature: bytes) -> bool:
        return peer == audit_cases.ACME


def _audit() -> Arena:
    acme, globex = audit_cases.ACME, audit_cases.GLOBEX
    manifest = audit_cases.MANIFEST
    own = AuditMachine(globex, AnySigner(), manifest, [manifest])
    driver = Driver({(acme, AUDIT): audit_cases.make_machine(acme), (globex, AUDIT): own}, audit_cases.JOB)
    finish = _arena("audit", driver, globex, acme, AUDITOR, AUDITING)
    for start in range(0, 150, 75):
        for party in (acme, globex):
            crossed = audit_cases.crossed(party, audit_cases.OUT, audit_cases.sealed(75, start=start))
            audit_cases.tell(driver, party, crossed)
    audit_cases.speak(driver)
    for party in (acme, globex):
        audit_cases.tell(driver, party, audit_cases.over(party))
    audit_cases.speak(driver)
    return finish()


_MAKERS: dict[str, Callable[[], Arena]] = {
    **{f"align-{role}": functools.partial(_align, role) for role in (Role.GUEST.value, Role.HOST.value)},
    **{
        f"train-{role}-{privacy}": functools.partial(_train, role.value, privacy)
        for role in Role
        for privacy in (Privacy.SPLIT_LINK, Privacy.TRUSTED_GUEST)
    },
    **{f"evaluate-{role}": functools.partial(_evaluate, role) for role in (Role.GUEST.value, Role.HOST.value)},
    **{f"register-{role}": functools.partial(_register, role) for role in (Role.GUEST.value, Role.HOST.value)},
    "job-guest": functools.partial(_job, "guest"),
    "job-host": functools.partial(_job, "host"),
    "job-host-asking": functools.partial(_job, "host", is_asking=True),
    "audit": _audit,
}
ARENAS = tuple(_MAKERS)


@functools.cache
def arena(name: str) -> Arena:
    """The arena of this name, made once a process."""
    return _MAKERS[name]()
