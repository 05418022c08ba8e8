"""The auditor's machine: writes down, and speaks when its timer fires; so that a job's end is one step, not twenty."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from schemas.audit import CrossedEnvelope, EnvelopesCrossed
from schemas.audit_statements import AUDIT, AuditContradicted, AuditCountersigned, AuditStatement
from schemas.audit_states import AuditedJob, AuditedStream
from schemas.digests import digest_of
from schemas.jobs import JobAccepted
from schemas.record import Record
from schemas.tasks import LocalFault, PeerFault, TimerFired
from streams.kernels.cross_signing import AuditWord, statement_digest, stream_name
from streams.kernels.trails import Entry, StreamName
from streams.machine import Event, Output, RefusedError, SetTimer, Step, ToPeer, ToResults
from streams.machines.audit.checks import Signer, check_word
from streams.machines.audit.comparison import find_shortfall
from streams.machines.audit.lists import append, count_of, cuts_to_say, forget_signed, name_of, open_stream, root_at
from streams.machines.audit.protocol import ENDS
from streams.machines.audit.talk import Talk, is_unanswered
from streams.machines.audit.words import Speaker

__all__ = ["AuditMachine", "Signer"]

SPEAK, REPEAT, SETTLE = "speak", "repeat", "settle"
SPEAK_MS, REPEAT_MS, SETTLE_MS = 1_000, 3_000, 60_000
#: Doubling from three seconds on: four days in all.
MOST_REPEATS = 16
#: Statements of a peer that wait for the own list to grow; the newest says what those before it said.
MOST_WAITING = 16
#: Contradictions of a peer that are kept for a stream.
MOST_DISPUTES = 16


class AuditMachine:
    """A party's auditor, for all jobs. Every record of a peer that it does not take raises `RefusedError`."""

    stage: str = AUDIT

    def __init__(self, party: str, signer: Signer, manifest: bytes, manifests: Collection[bytes]) -> None:
        """`manifest` is the digest of the one in force; `manifests` has those under which peers may have signed."""
        self._party = party
        self._signer = signer
        self._manifests = frozenset(manifests)
        self._talk = Talk(Speaker(party, signer, manifest))

    def initial(self, key: str) -> Record:
        """A job of which nothing was heard."""
        return AuditedJob(key)

    def step(self, state: Record, event: Event) -> Step:
        """Decide one input."""
        assert isinstance(state, AuditedJob)
        match event.record:
            case PeerFault(party=peer, detail=detail):
                raise RefusedError(f"{peer} sent {detail}")
            case AuditStatement() | AuditCountersigned() | AuditContradicted() as word if event.sender != self._party:
                check_word(self._party, event.sender, word, self._signer, self._manifests)
                return self._hear(state, event.sender, word)
            case record if event.sender != self._party:
                raise RefusedError(f"{event.sender} sent a {type(record).__name__}, which is not about what crossed")
            case EnvelopesCrossed(crossed=()):
                return Step(state)
            case EnvelopesCrossed(crossed=crossed):
                return self._schedule(replace(state, streams=_write_down(state.streams, crossed)))
            case JobAccepted(spec=spec):
                return Step(replace(state, spec=digest_of(spec)))
            case TimerFired(name=name):
                return self._fire(state, name)
            case LocalFault():
                # Whatever failed, nothing was said: it is said later.
                return Step(state, (SetTimer(SPEAK, REPEAT_MS),) if state.is_due else ())
        return self._schedule(replace(state, is_over=True)) if isinstance(event.record, ENDS) else Step(state)

    # --- listening ---

    def _hear(self, state: AuditedJob, peer: str, word: AuditWord) -> Step:
        if state == AuditedJob(state.job_id):
            # Too early, or about a job that never was: nothing is kept, the peer says it again.
            return Step(state)
        stream = self._find(state, peer, stream_name(word))
        match word:
            case AuditStatement():
                return self._schedule(_put(state, _hear_statement(peer, stream, word)))
            case AuditCountersigned():
                return self._hear_countersigned(state, peer, stream, word)
        if stream.disputes >= MOST_DISPUTES:
            raise RefusedError(f"{peer} contradicts more often about one stream than {self._party} takes note of")
        return Step(_put(state, replace(stream, disputes=stream.disputes + 1)), (ToResults(word),))

    def _hear_countersigned(
        self, state: AuditedJob, peer: str, stream: AuditedStream, word: AuditCountersigned
    ) -> Step:
        if word.count > stream.said:
            raise RefusedError(
                f"{peer} counter-signed {word.count} records of {stream_name(word)}, and {self._party} has signed"
                f" {stream.said}: {self._party} was restored from an old backup, or {peer} makes it up"
            )
        if word.count <= stream.confirmed or (root := root_at(stream, word.count)) is None:
            return Step(state)
        if root != word.root:
            raise RefusedError(f"{peer} counter-signed another root of {stream_name(word)} than {self._party} signed")
        confirmed = forget_signed(replace(stream, confirmed=word.count))
        return Step(_put(state, confirmed), (ToResults(word),))

    def _find(self, state: AuditedJob, peer: str, name: StreamName) -> AuditedStream:
        found = (stream for stream in state.streams if name_of(self._party, stream) == name)
        is_sent = name.sender == self._party
        return next(found, open_stream(peer, is_sent=is_sent, origin=name.origin, stage=name.stage))

    # --- speaking ---

    def _fire(self, state: AuditedJob, name: str) -> Step:
        outputs: list[Output] = []
        if name == SPEAK:
            state, outputs = self._talk.speak(replace(state, is_due=False))
            if any(isinstance(each, ToPeer) and isinstance(each.record, AuditStatement) for each in outputs):
                state = replace(state, repeats=0)
                outputs.append(SetTimer(REPEAT, REPEAT_MS))
        elif name == SETTLE:
            state, outputs = self._talk.settle(state)
        elif name == REPEAT and any(is_unanswered(stream) for stream in state.streams):
            state, outputs = self._talk.repeat(state)
            if state.repeats < MOST_REPEATS:
                outputs.append(SetTimer(REPEAT, REPEAT_MS << state.repeats))
        step = self._schedule(state) if name == SPEAK else Step(state)
        return Step(step.state, (*outputs, *step.outputs))

    def _schedule(self, state: AuditedJob) -> Step:
        """Set the timers that what is known now calls for."""
        outputs: list[Output] = []
        if not state.is_due and any(_has_something(stream, is_over=state.is_over) for stream in state.streams):
            state = replace(state, is_due=True)
            outputs.append(SetTimer(SPEAK, SPEAK_MS))
        if state.is_over and any(_is_short(stream) for stream in state.streams):
            outputs.append(SetTimer(SETTLE, SETTLE_MS))
        return Step(state, tuple(outputs))


def _hear_statement(peer: str, stream: AuditedStream, statement: AuditStatement) -> AuditedStream:
    if statement.count < stream.heard:
        raise RefusedError(
            f"{peer} speaks of {statement.count} records of {stream_name(statement)}, and spoke of {stream.heard}"
            f" before: {peer} was restored from an old backup, or its statement came a second time"
        )
    digest = statement_digest(statement)
    if stream.is_contradicted or any(statement_digest(each) == digest for each in stream.waiting):
        return stream
    is_final = statement.is_final or (stream.is_heard_final and statement.count == stream.heard)
    waiting = (*stream.waiting[: MOST_WAITING - 1], statement)
    return replace(stream, waiting=waiting, heard=statement.count, heard_statement=digest, is_heard_final=is_final)


def _has_something(stream: AuditedStream, *, is_over: bool) -> bool:
    """Something to say, or to answer."""
    if any(statement.count <= count_of(stream) for statement in stream.waiting):
        return True
    return any(True for _ in cuts_to_say(stream, is_over=is_over))


def _is_short(stream: AuditedStream) -> bool:
    """One of the lists is longer, and the peer was not told yet."""
    found = None if stream.is_contradicted else find_shortfall(stream)
    return found is not None and found[1] != stream.short_at


def _write_down(streams: tuple[AuditedStream, ...], crossed: Iterable[CrossedEnvelope]) -> tuple[AuditedStream, ...]:
    known = {(each.peer, each.is_sent, each.origin, each.stage): each for each in streams}
    leaves: dict[tuple[str, bool, str, str], list[bytes]] = {}
    for each in crossed:
        entry = Entry(each.sequence, each.chunk_index, each.digest.hex())
        leaves.setdefault((each.peer, each.is_sent, each.origin, each.stage), []).append(entry.leaf)
    for key, found in leaves.items():
        peer, is_sent, origin, stage = key
        stream = known.get(key) or open_stream(peer, is_sent=is_sent, origin=origin, stage=stage)
        known[key] = append(stream, b"".join(found))
    return tuple(known.values())


def _put(state: AuditedJob, stream: AuditedStream) -> AuditedJob:
    key = (stream.peer, stream.is_sent, stream.origin, stream.stage)
    places = [index for index, e in enumerate(state.streams) if (e.peer, e.is_sent, e.origin, e.stage) == key]
    if not places:
        return replace(state, streams=(*state.streams, stream))
    (at,) = places
    return replace(state, streams=(*state.streams[:at], stream, *state.streams[at + 1 :]))
