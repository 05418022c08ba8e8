"""What a machine owes its party whatever a peer sends. Each broken promise is an assertion with the story in it."""

from __future__ import annotations

from dataclasses import replace

from schemas.codec import decode, encode
from schemas.cohorts import COHORT
from schemas.conversion import blob_walker
from schemas.jobs import EndJob, JobFailed, Reason, Stage
from schemas.record import Blob, Record
from schemas.tasks import PeerFault, TaskFailed, TaskResumed
from streams.engine.chunks import CHUNK_BYTES
from streams.engine.intake import find_private, has_blobs
from streams.machine import (
    CancelTimer,
    Event,
    Output,
    SetTimer,
    Step,
    ToEvents,
    ToPeer,
    ToRegistry,
    ToResults,
    ToStage,
)
from streams.machines.task import MOST_EARLY
from tests.fuzz.arenas import Arena

#: A failing task or job may send these in any phase; a training task also settles what it spent.
_ENDING = frozenset({"TaskFailed", "JobFailed", "EndJob", "StopTask", "SettleCohort", "CohortCharged"})
#: Plain records for the house's people: a spec, which may have 200,000 bytes, and what is said about it.
MOST_TOLD = 300_000
MOST_DETAIL = 5_000
#: What a state may grow by for each byte of a peer's record, and in any case.
GROWTH, ROOM = 4, 20_000
#: What may be answered to a peer, whatever it sent: the longest honest answer of any arena is below this.
MOST_ANSWERED = 200_000


def as_told(arena: Arena, sender: str, record: Record) -> Event:
    """What the engine makes of a peer's record before the machine hears of it."""
    problem = find_private(type(record))
    if not problem and has_blobs(record):
        problem = "a blob"
    elif not problem and getattr(record, "job_id", arena.job_id) != arena.job_id:
        problem = f"a {type(record).__name__} about another job"
    if problem:
        fault = PeerFault(arena.job_id, sender, Reason.PROTOCOL_VIOLATION, problem)
        return Event(fault, arena.party)
    return Event(record, sender)


def check_step(arena: Arena, before: Record, event: Event, step: Step, author: str) -> None:
    """`author` is who really sent what the event tells of; the own party for its own events."""
    story = f"{arena.name} in {arena.phase_of(before)}: {type(event.record).__name__} of {author}"
    _check_state(step.state, before, event, story)
    _check_outputs(arena, step.outputs, story)
    if author == arena.party:
        return
    _check_blame(arena, step, event, author, story)
    _check_table(arena, before, event, step, author, story)
    if author != arena.peer and arena.phase_of(before) not in ("waiting", "new"):
        assert step.state == before and not step.outputs, f"{story}: a stranger changes nothing"


def check_refusal(arena: Arena, event: Event, author: str, text: str) -> None:
    """The dead letter of a record that a machine does not take at all names who sent it, and has an end."""
    story = f"{arena.name}: {type(event.record).__name__} of {author} is refused: {text[:500]}"
    assert author in (arena.party, *text.split()) or f"{author}'s" in text, story
    assert len(text) <= MOST_DETAIL, story


def _check_state(state: Record, before: Record, event: Event, story: str) -> None:
    store = {blob.sha256: blob.content for record in (before, state) for blob in _blobs(record)}
    data = encode(state)
    back = decode(data, lambda blob: store[blob.sha256])
    assert back == state or "nan" in repr(state), f"{story}: the state does not come back as it was"
    assert all(blob.sha256 in store for blob in _blobs(back)), f"{story}: a blob of the state is nowhere"
    grown = len(data) - len(encode(before))
    assert grown <= GROWTH * len(encode(event.record)) + ROOM, f"{story}: the state grew by {grown:,} bytes"


def _check_outputs(arena: Arena, outputs: tuple[Output, ...], story: str) -> None:
    answered = 0
    for output in outputs:
        match output:
            case ToPeer(party, record):
                assert party == arena.peer or arena.machine.stage == "job", f"{story}: something is sent to {party}"
                assert not list(_blobs(record)), f"{story}: a blob goes to a peer"
                answered += len(encode(record))
            case ToStage(stage, record):
                assert stage in {*Stage, COHORT}, f"{story}: there is no stage {stage}"
                encode(record)
            case ToEvents(record) | ToRegistry(_, record) | ToResults(record):
                told = len(encode(record))
                assert len(getattr(record, "detail", "")) <= MOST_DETAIL, f"{story}: a text without end is told"
                assert told <= MOST_TOLD < CHUNK_BYTES, f"{story}: a {type(record).__name__} of {told:,} bytes is told"
            case SetTimer(name, delay_ms):
                assert name and delay_ms >= 0, story
            case CancelTimer(name):
                assert name, story
    assert answered <= MOST_ANSWERED, f"{story}: {answered:,} bytes are answered"


def _check_blame(arena: Arena, step: Step, event: Event, author: str, story: str) -> None:
    for output in step.outputs:
        if not isinstance(output, ToEvents):
            continue
        match output.record:
            case TaskFailed(reason=reason, blame=blame):
                # A gradient is what the peer says it is: weights that it drives out of bounds are our own weights.
                assert blame == author or reason is Reason.LOGITS_OUT_OF_BOX, f"{story}: {blame} is blamed"
            case JobFailed(blame=blame):
                # Who ends a job says why, and its text is marked as its own.
                is_hearsay = isinstance(event.record, EndJob) and f"{author} " in output.record.detail
                assert blame == author or is_hearsay, f"{story}: {blame} is blamed"


def _check_table(arena: Arena, before: Record, event: Event, step: Step, author: str, story: str) -> None:
    """A step is in the protocol's table, or changes nothing, or ends the task or the job."""
    old, new = arena.phase_of(before), arena.phase_of(step.state)
    sent = {type(o.record) for o in step.outputs if isinstance(o, ToPeer | ToStage | ToEvents | ToRegistry | ToResults)}
    if new == "ended" != old and {cls.__name__ for cls in sent} & {"TaskFailed", "JobFailed"}:
        assert {cls.__name__ for cls in sent} <= _ENDING, f"{story}: a failure sends {sent}"
        return
    rows = [r for r in arena.transitions if (r.role, str(r.phase), r.event) == (arena.role, old, type(event.record))]
    if not rows:
        assert not step.outputs, f"{story}: not in the table, and sends {sent}"
        after = step.state
        if hasattr(before, "faults"):
            # Before the start nobody is a peer yet: what was wrong is noted.
            after = replace(after, faults=before.faults)  # type: ignore[type-var]
        if hasattr(before, "early"):
            # Nor has the party a role yet: what came early is kept, some of it.
            assert len(after.early) <= MOST_EARLY, story  # type: ignore[attr-defined]
            after = replace(after, early=before.early)  # type: ignore[type-var]
        assert encode(after) == encode(before), f"{story}: not in the table, and changes the state"
        return
    (row,) = rows
    assert new == old or new in {str(phase) for phase in row.to}, f"{story}: goes to {new}"
    assert sent <= {*row.sends, TaskResumed}, f"{story}: sends {sent}"


def _blobs(record: Record) -> list[Blob]:
    walk = blob_walker(type(record))
    return [] if walk is None else list(walk(record))
