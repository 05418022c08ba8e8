"""The coordinator's machine: sort out who may say what, then hand over to the role's module."""

from __future__ import annotations

from schemas.job_states import EndedJob, GuestJob, HostJob, JobPhase, NewJob
from schemas.jobs import ApproveJob, CancelJob, DeclineJob, JobFailed, Privacy, ProposeJob, Stage, SubmitJob
from schemas.profiles import KeyProfile
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    TaskFailed,
    TaskResumed,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.machine import Event, Step, ToEvents
from streams.machines.job import guest, host
from streams.machines.job.ending import participants_of, peers_of, refuse, violate
from streams.machines.job.policy import OwnParty, Policy
from streams.machines.job.protocol import COMMANDS, CONTROL
from streams.machines.job.validation import LEAST_KEY_BITS

#: What the own party's processes report and the engine tells.
_REPORTS = (TaskSucceeded, TaskFailed, TaskSuspended, TaskResumed, TimerFired, LocalFault, PeerFault)


class JobMachine:
    """A party's coordinator.

    `peers` are the parties whose keys are known (`None`: not checked), `privacy` the classes that a job may ask for,
    `key_profile` the furthest from exact randomisers that it may go.
    `least_key_bits` below 2048 lets tests and simulations use small keys; no setting of a deployment leads there.
    """

    stage: str = Stage.JOB.value

    def __init__(
        self,
        party: str,
        policy: Policy,
        *,
        peers: frozenset[str] | None = None,
        privacy: frozenset[Privacy] = frozenset(Privacy),
        least_key_bits: int = LEAST_KEY_BITS,
        key_profile: KeyProfile = KeyProfile.EXACT,
    ) -> None:
        self._own = OwnParty(party, policy, peers, privacy, least_key_bits, key_profile)

    def initial(self, key: str) -> Record:
        """A job that was not heard of yet."""
        return NewJob(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide one input. See `protocol.py` for what may come when."""
        is_own = event.sender == self._own.name
        match state, event.record:
            case _, record if is_own and not isinstance(record, (*COMMANDS, *_REPORTS)):
                # The own events topic is read for the tasks' reports; this coordinator's own events come back too.
                return Step(state)
            case (GuestJob() | HostJob()) as job, record if not is_own:
                return self._step_by_peer(job, event)
            case GuestJob(), PeerFault(party=party) if party not in peers_of(state):
                return Step(state)
            case HostJob(), PeerFault(party=party) if party not in peers_of(state):
                return Step(state)
            case GuestJob() as job, _:
                return guest.step_guest(self._own, job, event)
            case HostJob() as job, _:
                return host.step_host(self._own, job, event)
            case NewJob() as new, record:
                return self._step_new(new, event, is_own)
            case EndedJob() as ended, record if is_own and isinstance(record, COMMANDS):
                return self._answer_late(ended, record)
        return Step(state)

    def _step_by_peer(self, state: GuestJob | HostJob, event: Event) -> Step:
        if event.sender not in peers_of(state):
            return Step(state)
        if not isinstance(event.record, CONTROL):
            return violate(self._own.name, state, event.sender, event.record)
        if isinstance(state, GuestJob):
            return guest.step_guest(self._own, state, event)
        return host.step_host(self._own, state, event)

    def _step_new(self, state: NewJob, event: Event, is_own: bool) -> Step:
        own, record = self._own, event.record
        match record:
            case SubmitJob() if is_own:
                return guest.submit(own, state, record, event.resource)
            case ProposeJob() if not is_own:
                return host.consider(own, state, event.sender, record, event.resource)
            case LocalFault() if is_own:
                failed = JobFailed(state.job_id, own.name, record.reason, own.name, record.detail)
                return Step(EndedJob(state.job_id, None, None, record.reason), (ToEvents(failed),))
            case CancelJob() | ApproveJob() | DeclineJob() if is_own:
                return refuse(own.name, state, state.job_id, record, "job_id", "no job of this id is known here")
        return Step(state)

    def _answer_late(self, state: EndedJob, command: Record) -> Step:
        if isinstance(command, SubmitJob):
            return guest.repeat(self._own, state, state.spec, command)
        return refuse(self._own.name, state, state.job_id, command, "job_id", "the job is over")


def phase_of(state: Record) -> JobPhase:
    """Where the job of this state stands."""
    match state:
        case NewJob():
            return JobPhase.NEW
        case GuestJob():
            return JobPhase.PROPOSED if state.stage is Stage.JOB else JobPhase.RUNNING
        case HostJob(stage=Stage.JOB):
            return JobPhase.APPROVED if state.approved else JobPhase.AWAITING_APPROVAL
        case HostJob():
            return JobPhase.RUNNING
    return JobPhase.ENDED


__all__ = ["JobMachine", "participants_of", "phase_of"]
