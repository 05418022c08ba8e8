"""A host of an alignment: blinds its table, doubles the guest's points, and checks what the guest calls joint rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from schemas.alignment import (
    AlignReady,
    BlindedPoints,
    ContinueBlinding,
    ContinueMatching,
    DoubleBlindedTags,
    MatchConfirmed,
    MatchedRows,
)
from schemas.alignment_states import AlignEnded, AlignPhase, HostAlignment
from schemas.jobs import Stage
from schemas.record import Blob
from streams.kernels.entropy import Secret
from streams.kernels.ristretto import MATCH_BYTES
from streams.kernels.tag_join import NOWHERE, Words, join_tags
from streams.machine import Event, Output, Step, ToPeer, ToStage
from streams.machines.align.blinding import (
    blind,
    count_chunks,
    double,
    is_known,
    is_repeated,
    ready_of,
    shuffle,
    split_tags,
)
from streams.machines.align.outcome import hand_over, report_progress, take_ready
from streams.machines.align.protocol import MAX_CHUNK_POINTS, MAX_CHUNKS
from streams.machines.align.tag_table import TagTable
from streams.machines.task import Task, stop_waiting, violation, wait_for

_POSITION_BYTES = 4


def step(state: HostAlignment, event: Event, secret: Secret, task: Task) -> Step:
    """Decide what a record does to the host's task. Raises `RefusalError`."""
    match state.phase, event.record:
        case AlignPhase.BLINDING, ContinueBlinding(_, _, chunk):
            return _blind_next(state, chunk, secret, task)
        case _, ContinueBlinding():
            return Step(state)
        case _, ContinueMatching():
            return Step(state)
        case _, AlignReady() as ready:
            if is_known(state.link, ready):
                return Step(state)
            link, outputs = take_ready(state.setup, state.link, ready)
            return _go_on(replace(state, link=link), outputs)
        case _, BlindedPoints() as points:
            return _double_next(state, points, secret, task)
        case AlignPhase.MATCHING, MatchedRows() as matched:
            return _take_matches(state, matched, event, secret, task)
    raise violation(event.sender, f"{type(event.record).__name__} does not belong in phase {state.phase}")


def _blind_next(state: HostAlignment, chunk: int, secret: Secret, task: Task) -> Step:
    link = state.link
    if chunk != link.sent or chunk >= len(link.ids):
        return Step(state)
    record = blind(secret, state.setup, task.party, link)
    link = replace(link, sent=link.sent + 1)
    outputs: list[Output] = [ToPeer(link.party, record)]
    if link.sent < len(link.ids):
        outputs.append(ToStage(Stage.ALIGN, ContinueBlinding(state.setup.job_id, link.party, link.sent)))
    outputs.append(report_progress(state.setup, (link,), task))
    return Step(_advance(replace(state, link=link)), tuple(outputs))


def _double_next(state: HostAlignment, points: BlindedPoints, secret: Secret, task: Task) -> Step:
    link = state.link
    if is_repeated(link, points.chunk, len(link.doubled), ready_of(link).chunks, "points"):
        return Step(state)
    tags, proofs = split_tags(double(secret, state.setup, task.party, link, points))
    link = replace(link, doubled=(*link.doubled, Blob.of(proofs)))
    if len(link.doubled) == ready_of(link).chunks:
        _check_distinct(link.party, TagTable(link.doubled), "points")
    answer = ToPeer(link.party, DoubleBlindedTags(state.setup.job_id, points.chunk, tags))
    outputs = (answer, report_progress(state.setup, (link,), task))
    return _go_on(_advance(replace(state, link=link)), outputs)


def _advance(state: HostAlignment) -> HostAlignment:
    """Nothing but joint rows is missing once both tables are through."""
    link = state.link
    if link.ready is not None and link.sent == len(link.ids) and len(link.doubled) == link.ready.chunks:
        return replace(state, phase=AlignPhase.MATCHING)
    return state


def _go_on(state: HostAlignment, outputs: tuple[Output, ...]) -> Step:
    return Step(state, (*outputs, wait_for(state.link.party, state.setup.patience_seconds)))


def _take_matches(state: HostAlignment, matched: MatchedRows, event: Event, secret: Secret, task: Task) -> Step:
    link, taken = state.link, len(state.link.matches)
    if taken == 0:
        state = _take_announcement(state, matched)
    if is_repeated(link, matched.chunk, taken, state.match_chunks, "joint rows"):
        return Step(state)
    if (matched.rows, matched.chunks) != (state.n_joint, state.match_chunks):
        raise violation(link.party, f"{link.party} changed the number of joint rows on the way")
    rows = len(matched.proofs) // MATCH_BYTES
    if rows < 1 or len(matched.positions) != rows * _POSITION_BYTES or len(matched.proofs) != rows * MATCH_BYTES:
        raise violation(link.party, f"chunk {matched.chunk} of joint rows has positions and proofs that do not pair")
    positions = np.frombuffer(matched.positions, dtype="<u4")
    if int(positions.max()) >= state.setup.rows:
        raise violation(
            link.party, f"joint rows name position {int(positions.max())} of a table with {state.setup.rows} rows"
        )
    matches, proofs = (*link.matches, Blob.of(matched.positions)), (*link.proofs, Blob.of(matched.proofs))
    state = replace(state, link=replace(link, matches=matches, proofs=proofs))
    if len(matches) < state.match_chunks:
        return _go_on(state, ())
    return _finish(state, event, secret, task)


def _take_announcement(state: HostAlignment, matched: MatchedRows) -> HostAlignment:
    """The first chunk says how many rows and chunks there are; more than either table has there cannot be."""
    limit = min(state.setup.rows, ready_of(state.link).rows)
    if not 1 <= matched.rows <= limit:
        raise violation(state.link.party, f"{matched.rows} joint rows are announced; 1 to {limit} are possible")
    least = count_chunks(matched.rows, MAX_CHUNK_POINTS)
    if not least <= matched.chunks <= min(MAX_CHUNKS, matched.rows):
        raise violation(state.link.party, f"{matched.chunks} chunks are announced for {matched.rows} joint rows")
    return replace(state, n_joint=matched.rows, match_chunks=matched.chunks)


def _finish(state: HostAlignment, event: Event, secret: Secret, task: Task) -> Step:
    """All joint rows are here: check them as a whole, take them over, and tell the guest."""
    link = state.link
    positions = np.frombuffer(b"".join(blob.content for blob in link.matches), dtype="<u4")
    proofs = TagTable(link.proofs)
    if len(positions) != state.n_joint:
        raise violation(link.party, f"{len(positions)} joint rows came instead of {state.n_joint}")
    listed = np.zeros(state.setup.rows, dtype=np.bool_)
    listed[positions] = True
    if np.count_nonzero(listed) != len(positions):
        raise violation(link.party, "a position is listed twice among the joint rows")
    _check_distinct(link.party, proofs, "proofs of joint rows")
    check_proofs(link.party, proofs, TagTable(link.doubled))
    rows = Blob.of(shuffle(secret, state.setup, link.party)[positions].astype("<u4").tobytes())
    outputs = (
        ToPeer(link.party, MatchConfirmed(state.setup.job_id, state.n_joint)),
        *stop_waiting((link.party,)),
        *hand_over(state.setup, task, event, (link,), rows, state.n_joint),
    )
    return Step(AlignEnded(state.setup.job_id, rows), outputs)


def check_proofs(guest: str, proofs: Sequence[Words], known: Sequence[Words]) -> None:
    """Every joint row must come with the second half of a digest that a point of the guest's gave here, too.

    Raises `RefusalError`.
    """
    places = join_tags(proofs, known).places
    invented = np.count_nonzero(places == NOWHERE)
    if invented:
        raise violation(guest, f"{invented} of {len(places)} joint rows come without proof that {guest} has them")


def _check_distinct(sender: str, items: Sequence[Words], what: str) -> None:
    join = join_tags(items, ())
    if join.repeated_in_first:
        raise violation(sender, f"{join.repeated_in_first} of {len(join.places)} {what} of {sender} repeat")
