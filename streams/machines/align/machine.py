"""The align stage as one machine for both roles: which role a job gives the party is in its StartTask."""

from __future__ import annotations

from dataclasses import replace

from schemas.alignment import AlignReady
from schemas.alignment_states import (
    AlignEnded,
    AlignLink,
    AlignPhase,
    AlignSetup,
    AlignWaiting,
    EarlyReady,
    GuestAlignment,
    HostAlignment,
)
from schemas.digests import digest_of
from schemas.jobs import Reason, Role, Stage
from schemas.record import Record
from schemas.tasks import LocalFault, PeerFault, StartTask, StopTask, TimerFired
from streams.kernels.entropy import Secret
from streams.machine import Event, Output, Step, ToPeer
from streams.machines.align import guest, host
from streams.machines.align.blinding import announce, cut_ids, shuffle
from streams.machines.align.outcome import take_ready
from streams.machines.align.protocol import CHUNK_POINTS, PEER_RECORDS
from streams.machines.task import (
    MOST_EARLY,
    RefusalError,
    Task,
    answer_alike,
    check_dataset,
    check_faults,
    early_fault,
    fault_refusal,
    is_misplaced,
    keep_fault,
    stop_waiting,
    violation,
    wait_for,
)

_Live = GuestAlignment | HostAlignment


class AlignMachine:
    """ECDH-PSI with every host. `chunk_points` is how many points this party puts into a record of its own."""

    stage = str(Stage.ALIGN)

    def __init__(self, party: str, secret: Secret, chunk_points: int = CHUNK_POINTS) -> None:
        self.party = party
        self.secret = secret
        self.chunk_points = chunk_points

    def initial(self, key: str) -> Record:
        """Waits for StartTask."""
        return AlignWaiting(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide. Never raises for what others sent."""
        if isinstance(state, AlignEnded):
            return Step(state)
        assert isinstance(state, AlignWaiting | GuestAlignment | HostAlignment)
        job_id = state.job_id if isinstance(state, AlignWaiting) else state.setup.job_id
        task = Task(job_id, Stage.ALIGN, self.party)
        try:
            return self._decide(state, event, task)
        except RefusalError as refusal:
            return Step(AlignEnded(job_id), (task.failed(refusal), *stop_waiting(_peers(state))))

    def _decide(self, state: AlignWaiting | _Live, event: Event, task: Task) -> Step:
        if isinstance(state, AlignWaiting):
            return self._wait(state, event, task, is_misplaced(event, self.party, task.job_id, PEER_RECORDS))
        alike = answer_alike(state, AlignEnded(task.job_id), event, task, _peers(state), PEER_RECORDS)
        if alike is not None:
            return alike
        match state, event.record:
            case _, StartTask():
                return Step(state)
            case _, TimerFired() as timer:
                silent, outputs = task.silence(state.silent, timer, state.setup.patience_seconds)
                return Step(replace(state, silent=silent), outputs)
            case GuestAlignment(), _:
                return self._with_voice(guest.step(state, event, self.secret, task), event, task)
            case HostAlignment(), _:
                return self._with_voice(host.step(state, event, self.secret, task), event, task)
        raise violation(self.party, f"no case for {type(state).__name__}")

    def _wait(self, state: AlignWaiting, event: Event, task: Task, misplaced: bool) -> Step:
        """Before the start: keep Readys, and what parties did wrong."""
        from_peer = event.sender != self.party
        match event.record:
            case AlignReady() as ready if from_peer and not misplaced:
                return _keep_ready(state, event.sender, ready)
            case _ if from_peer:
                return Step(replace(state, faults=keep_fault(state.faults, early_fault(task.job_id, event))))
            case StopTask():
                return Step(AlignEnded(task.job_id))
            case LocalFault() as fault:
                raise fault_refusal(fault, self.party)
            case PeerFault() as fault:
                return Step(replace(state, faults=keep_fault(state.faults, fault)))
            case StartTask() as start:
                return self._start(state, start, event, task)
        return Step(state)

    def _with_voice(self, step: Step, event: Event, task: Task) -> Step:
        """If the sender's silence was told, tell that it is over."""
        if not isinstance(step.state, _Live):
            return step
        silent, resumed = task.voice(step.state.silent, event.sender)
        return Step(replace(step.state, silent=silent), resumed + step.outputs)

    def _start(self, state: AlignWaiting, start: StartTask, event: Event, task: Task) -> Step:
        dataset = check_dataset(event.resource, start.profile, self.party)
        spec = start.spec
        setup = AlignSetup(
            job_id=start.job_id,
            guest=spec.guest.party,
            id_type=spec.align.id_type,
            rows=len(dataset.ids),
            chunk_points=self.chunk_points,
            spec_digest=digest_of(spec),
            fingerprint=dataset.profile.fingerprint,
            patience_seconds=spec.patience_seconds,
        )
        if not len(dataset.ids):
            raise RefusalError(Reason.INVALID_DATA, self.party, "the dataset has no row")
        peers = sorted(h.party for h in spec.hosts) if start.role is Role.GUEST else [spec.guest.party]
        check_faults(state.faults, peers, self.party)
        outputs: list[Output] = [task.started()]
        links: list[AlignLink] = []
        early = {each.party: each.ready for each in state.early}
        for peer in peers:
            link = AlignLink(peer, cut_ids(dataset.ids, shuffle(self.secret, setup, peer), self.chunk_points))
            outputs += [ToPeer(peer, announce(self.secret, setup, peer)), wait_for(peer, setup.patience_seconds)]
            if peer in early:
                link, begun = take_ready(setup, link, early[peer])
                outputs += begun
            links.append(link)
        if start.role is Role.GUEST:
            return Step(GuestAlignment(AlignPhase.BLINDING, setup, tuple(links)), tuple(outputs))
        return Step(HostAlignment(AlignPhase.BLINDING, setup, links[0]), tuple(outputs))


def _keep_ready(state: AlignWaiting, sender: str, ready: AlignReady) -> Step:
    if len(state.early) >= MOST_EARLY or any(each.party == sender for each in state.early):
        return Step(state)
    return Step(replace(state, early=(*state.early, EarlyReady(sender, ready))))


def _peers(state: Record) -> tuple[str, ...]:
    match state:
        case GuestAlignment():
            return tuple(link.party for link in state.links)
        case HostAlignment():
            return (state.link.party,)
    return ()
