"""What the machines of all stages tell about their tasks, and how a task ends before its time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from schemas.jobs import DataProfile, Reason, Stage
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    Measure,
    PeerFault,
    StopTask,
    TaskFailed,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.dataset import Dataset, DatasetProblem
from streams.machine import CancelTimer, Event, Output, SetTimer, Step, ToEvents

_PATIENCE = "patience/"

#: Details may repeat what a peer wrote: events, which people read, tell no more of them than this.
MOST_DETAIL = 4_000

#: Parties of which something is kept before StartTask says who takes part: more never share a job.
MOST_EARLY = 16


class RefusalError(Exception):
    """The task cannot go on. Raised deep inside a step, turned into `TaskFailed` at its edge."""

    def __init__(self, reason: Reason, blame: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.blame = blame
        self.detail = detail


def violation(blame: str, detail: str) -> RefusalError:
    """`blame` sent what the protocol does not allow."""
    return RefusalError(Reason.PROTOCOL_VIOLATION, blame, detail)


@dataclass(frozen=True)
class Task:
    """One stage of one job at one party; its methods make the events."""

    job_id: str
    stage: Stage
    party: str

    def started(self) -> ToEvents:
        """The task began."""
        return ToEvents(TaskStarted(self.job_id, self.stage, self.party))

    def progressed(self, done: int, total: int, unit: str, detail: str) -> ToEvents:
        """`done` of `total` units are behind us."""
        return ToEvents(TaskProgressed(self.job_id, self.stage, self.party, done, total, unit, detail))

    def succeeded(self, event: Event, measures: Mapping[str, float]) -> ToEvents:
        """The task ended well."""
        listed = tuple(Measure(name, float(value)) for name, value in measures.items())
        t = event.traffic
        return ToEvents(
            TaskSucceeded(
                self.job_id,
                self.stage,
                self.party,
                t.bytes_sent,
                t.bytes_received,
                t.records_sent,
                t.records_received,
                listed,
            )
        )

    def failed(self, refusal: RefusalError) -> ToEvents:
        """The task ended badly."""
        detail = refusal.detail[:MOST_DETAIL]
        return ToEvents(TaskFailed(self.job_id, self.stage, self.party, refusal.reason, refusal.blame, detail))

    def silence(self, silent: str, timer: TimerFired, seconds: int) -> tuple[str, tuple[Output, ...]]:
        """A patience timer fired: (whose silence was told, outputs). One peer's silence is told at a time."""
        peer = timer.name.removeprefix(_PATIENCE)
        if silent and silent != peer:
            return silent, (wait_for(peer, seconds),)
        if silent:
            return silent, ()
        return peer, (ToEvents(TaskSuspended(self.job_id, self.stage, self.party, Reason.PEER_SILENT, peer)),)

    def voice(self, silent: str, sender: str) -> tuple[str, tuple[Output, ...]]:
        """A peer spoke: (whose silence is told still, outputs)."""
        if silent != sender:
            return silent, ()
        return "", (ToEvents(TaskResumed(self.job_id, self.stage, self.party)),)


def wait_for(peer: str, seconds: int) -> SetTimer:
    """Be told when nothing is heard from `peer` for so long; setting it again begins anew."""
    return SetTimer(_PATIENCE + peer, seconds * 1000)


def stop_waiting(peers: Iterable[str]) -> tuple[Output, ...]:
    """Nothing is expected from these peers now."""
    return tuple(CancelTimer(_PATIENCE + peer) for peer in peers)


def check_dataset(resource: object, profile: DataProfile, party: str) -> Dataset:
    """The party's table, if it is usable and still the one that the job was approved for. Raises `RefusalError`."""
    if isinstance(resource, DatasetProblem):
        text = "; ".join(f"{mistake.path}: {mistake.message}" for mistake in resource.mistakes)
        raise RefusalError(Reason.INVALID_DATA, party, text or "the dataset cannot be used")
    if not isinstance(resource, Dataset):
        raise RefusalError(Reason.INTERNAL_ERROR, party, "the process gave the task no dataset")
    if resource.profile.fingerprint != profile.fingerprint:
        raise RefusalError(
            Reason.DATA_CHANGED,
            party,
            f"the dataset of {party} is not the one that was approved: fingerprint"
            f" {resource.profile.fingerprint.hex()[:16]} instead of {profile.fingerprint.hex()[:16]};"
            " restore the data, or submit a new job",
        )
    return resource


def keep_fault(faults: tuple[PeerFault, ...], fault: PeerFault) -> tuple[PeerFault, ...]:
    """Remember what a party did wrong until StartTask tells who takes part: a stranger must not end a job."""
    if len(faults) >= MOST_EARLY or any(known.party == fault.party for known in faults):
        return faults
    return (*faults, fault)


def early_fault(job_id: str, event: Event) -> PeerFault:
    """The fault of a party that sends what nobody may send before this party was started."""
    detail = f"{type(event.record).__name__} came from {event.sender} before this party was started"
    return PeerFault(job_id, event.sender, Reason.PROTOCOL_VIOLATION, detail)


def is_misplaced(event: Event, party: str, job_id: str, peer_records: frozenset[type[Record]]) -> bool:
    """Whether a peer sends what only the own party may send, the other way round, or a record of another job."""
    is_of_peers = type(event.record) in peer_records
    if event.sender == party:
        return is_of_peers
    return not is_of_peers or getattr(event.record, "job_id", None) != job_id


def check_faults(faults: Iterable[PeerFault], peers: Iterable[str], party: str) -> None:
    """Raise `RefusalError` if one of the peers did something wrong before the start."""
    known = set(peers)
    for fault in faults:
        if fault.party in known:
            raise fault_refusal(fault, party)


def fault_refusal(record: LocalFault | PeerFault, party: str) -> RefusalError:
    """Why the engine asks a machine to end its task."""
    blame = record.party if isinstance(record, PeerFault) else party
    return RefusalError(record.reason, blame, record.detail)


def answer_alike(
    state: Record,
    ended: Record,
    event: Event,
    task: Task,
    peers: Collection[str],
    peer_records: frozenset[type[Record]],
) -> Step | None:
    """What every stage that was started answers in the same way; `None` leaves the event to the stage.

    `ended` is the state after StopTask. Raises `RefusalError` for faults and for records that the sender may not send.
    """
    if event.sender not in (task.party, *peers):
        return Step(state)  # A stranger to this job can neither take part in it nor end it.
    if is_misplaced(event, task.party, task.job_id, peer_records):
        raise violation(event.sender, f"{event.sender} may not send this {type(event.record).__name__}")
    match event.record:
        case StopTask():
            return Step(ended, stop_waiting(peers))
        case LocalFault() as fault:
            raise fault_refusal(fault, task.party)
        case PeerFault() as fault:
            check_faults([fault], peers, task.party)
            return Step(state)
    return None
