"""What both roles say when a peer is ready, on the way, and at a good end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from schemas.alignment import AlignmentReady, AlignReady, ContinueBlinding, PartyRows
from schemas.alignment_states import AlignLink, AlignSetup
from schemas.jobs import Stage
from schemas.record import Blob
from streams.machine import Event, Output, ToStage
from streams.machines.align.blinding import check_ready, ready_of
from streams.machines.task import Task


def take_ready(setup: AlignSetup, link: AlignLink, ready: AlignReady) -> tuple[AlignLink, tuple[Output, ...]]:
    """Take a peer's announcement and begin to blind for it. Raises `RefusalError`."""
    check_ready(setup, link.party, ready)
    begin = ToStage(Stage.ALIGN, ContinueBlinding(setup.job_id, link.party, 0))
    return replace(link, ready=ready), (begin,)


def report_progress(setup: AlignSetup, links: Sequence[AlignLink], task: Task) -> Output:
    """Points multiplied of those to multiply, own and peers', as far as peers have announced theirs."""
    done = sum(_rows_done(link.sent, setup.chunk_points, setup.rows) for link in links)
    total = len(links) * setup.rows
    for link in links:
        if link.ready is not None:
            done += _rows_done(len(link.doubled), link.ready.chunk_points, link.ready.rows)
            total += link.ready.rows
    return task.progressed(done, total, "points", f"{done:,} of {total:,} points multiplied")


def hand_over(
    setup: AlignSetup, task: Task, event: Event, links: Sequence[AlignLink], rows: Blob, n_joint: int
) -> tuple[Output, ...]:
    """Give the joint rows to the stages that need them, and report."""
    peers = {link.party: ready_of(link).rows for link in links}
    tables = tuple(PartyRows(party, count) for party, count in sorted({**peers, task.party: setup.rows}.items()))
    ready = AlignmentReady(setup.job_id, rows, n_joint, tables, setup.fingerprint)
    measures: dict[str, float] = {"n_own": setup.rows}
    for party, count in peers.items():
        measures["n_peer" if len(peers) == 1 else f"n_peer_{party}"] = count
    measures["n_intersection"] = n_joint
    return (ToStage(Stage.TRAIN, ready), ToStage(Stage.EVALUATE, ready), task.succeeded(event, measures))


def _rows_done(chunks: int, chunk_points: int, rows: int) -> int:
    return min(chunks * chunk_points, rows)
