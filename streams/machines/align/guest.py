"""The guest of an alignment: runs the exchange with each host, intersects, and chooses the joint order."""

from __future__ import annotations

from dataclasses import replace

from schemas.alignment import (
    AlignReady,
    BlindedPoints,
    ContinueBlinding,
    ContinueMatching,
    DoubleBlindedTags,
    MatchConfirmed,
    MatchedRows,
)
from schemas.alignment_states import AlignEnded, AlignLink, AlignPhase, GuestAlignment
from schemas.jobs import Stage
from schemas.record import Blob
from streams.kernels.entropy import Secret
from streams.kernels.ristretto import MATCH_BYTES
from streams.machine import Event, Output, Step, ToPeer, ToStage
from streams.machines.align.blinding import blind, double, is_known, is_repeated, ready_of
from streams.machines.align.matching import intersect
from streams.machines.align.outcome import hand_over, report_progress, take_ready
from streams.machines.task import Task, stop_waiting, violation, wait_for

_POSITION_BYTES = 4


def step(state: GuestAlignment, event: Event, secret: Secret, task: Task) -> Step:
    """Decide what a record does to the guest's task. Raises `RefusalError`."""
    own = task.party
    match state.phase, event.record:
        case AlignPhase.BLINDING, ContinueBlinding(_, peer, chunk):
            return _blind_next(state, _link(state, peer), chunk, secret, task)
        case _, ContinueBlinding():
            return Step(state)
        case AlignPhase.MATCHING, ContinueMatching(_, chunk):
            return _send_matches(state, chunk, secret, task)
        case _, ContinueMatching():
            return Step(state)
        case _, AlignReady() as ready:
            link = _link(state, event.sender)
            if is_known(link, ready):
                return Step(state)
            link, outputs = take_ready(state.setup, link, ready)
            return _go_on(state, link, task, outputs)
        case _, BlindedPoints() as points:
            link = _link(state, event.sender)
            if is_repeated(link, points.chunk, len(link.doubled), ready_of(link).chunks, "points"):
                return Step(state)
            tags = Blob.of(double(secret, state.setup, own, link, points))
            link = replace(link, doubled=(*link.doubled, tags))
            return _go_on(state, link, task, (_progress(state, link, task),))
        case _, DoubleBlindedTags() as record:
            link = _link(state, event.sender)
            # Tags answer chunks: one for a chunk that was not sent is a violation.
            if is_repeated(link, record.chunk, len(link.returned), link.sent, "tags"):
                return Step(state)
            rows = min(state.setup.chunk_points, state.setup.rows - record.chunk * state.setup.chunk_points)
            if len(record.tags) != rows * MATCH_BYTES:
                raise violation(
                    link.party,
                    f"chunk {record.chunk} of tags has {len(record.tags)} bytes instead of {rows * MATCH_BYTES}",
                )
            return _go_on(state, replace(link, returned=(*link.returned, Blob.of(record.tags))), task, ())
        case AlignPhase.CONFIRMING, MatchConfirmed() as record:
            return _take_confirmation(state, _link(state, event.sender), record, event, task)
    raise violation(event.sender, f"{type(event.record).__name__} does not belong in phase {state.phase}")


def _blind_next(state: GuestAlignment, link: AlignLink, chunk: int, secret: Secret, task: Task) -> Step:
    if chunk != link.sent or chunk >= len(link.ids):
        return Step(state)
    record = blind(secret, state.setup, task.party, link)
    link = replace(link, sent=link.sent + 1)
    outputs: list[Output] = [ToPeer(link.party, record)]
    if link.sent < len(link.ids):
        outputs.append(ToStage(Stage.ALIGN, ContinueBlinding(state.setup.job_id, link.party, link.sent)))
    outputs.append(_progress(state, link, task))
    return Step(_with_link(state, link), tuple(outputs))


def _go_on(state: GuestAlignment, link: AlignLink, task: Task, outputs: tuple[Output, ...]) -> Step:
    """After a host's record: wait for its next one, and begin to match when nothing is missing from anyone."""
    state = _with_link(state, link)
    if _expects(state, link):
        outputs = (*outputs, wait_for(link.party, state.setup.patience_seconds))
    else:
        outputs = (*outputs, *stop_waiting((link.party,)))
    if state.phase is AlignPhase.BLINDING and not any(_expects(state, each) for each in state.links):
        state = replace(state, phase=AlignPhase.MATCHING)
        outputs = (*outputs, ToStage(Stage.ALIGN, ContinueMatching(state.setup.job_id, 0)))
    return Step(state, outputs)


def _expects(state: GuestAlignment, link: AlignLink) -> bool:
    """Whether the host still owes points or tags."""
    return link.ready is None or len(link.doubled) < link.ready.chunks or len(link.returned) < len(link.ids)


def _send_matches(state: GuestAlignment, chunk: int, secret: Secret, task: Task) -> Step:
    """Send every host its next chunk of joint rows; intersect before the first."""
    if chunk != state.matches_sent:
        return Step(state)
    if state.rows is None:
        state = intersect(state, secret)
    chunks = len(state.links[0].matches)
    outputs: list[Output] = []
    for link in state.links:
        content = link.matches[chunk].content
        rows = len(content) // (_POSITION_BYTES + MATCH_BYTES)
        positions, proofs = content[: rows * _POSITION_BYTES], content[rows * _POSITION_BYTES :]
        record = MatchedRows(state.setup.job_id, chunk, chunks, state.n_joint, positions, proofs)
        outputs.append(ToPeer(link.party, record))
    state = replace(state, matches_sent=chunk + 1)
    if state.matches_sent < chunks:
        outputs.append(ToStage(Stage.ALIGN, ContinueMatching(state.setup.job_id, state.matches_sent)))
        return Step(state, tuple(outputs))
    outputs.extend(wait_for(link.party, state.setup.patience_seconds) for link in state.links)
    return Step(replace(state, phase=AlignPhase.CONFIRMING), tuple(outputs))


def _take_confirmation(
    state: GuestAlignment, link: AlignLink, record: MatchConfirmed, event: Event, task: Task
) -> Step:
    if link.is_confirmed:
        return Step(state)
    if record.rows != state.n_joint:
        raise violation(link.party, f"{link.party} confirms {record.rows} joint rows, {state.n_joint} were sent")
    state = _with_link(state, replace(link, is_confirmed=True))
    outputs = stop_waiting((link.party,))
    if not all(each.is_confirmed for each in state.links):
        return Step(state, outputs)
    assert state.rows is not None
    finished = hand_over(state.setup, task, event, state.links, state.rows, state.n_joint)
    return Step(AlignEnded(state.setup.job_id, state.rows), outputs + finished)


def _progress(state: GuestAlignment, link: AlignLink, task: Task) -> Output:
    return report_progress(state.setup, _with_link(state, link).links, task)


def _link(state: GuestAlignment, party: str) -> AlignLink:
    return next(link for link in state.links if link.party == party)


def _with_link(state: GuestAlignment, link: AlignLink) -> GuestAlignment:
    links = tuple(link if each.party == link.party else each for each in state.links)
    return replace(state, links=links)
