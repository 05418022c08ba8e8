"""The guest's intersection: rows that every host has, in an order that the guest draws."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.alignment_states import AlignLink, AlignSetup, GuestAlignment
from schemas.jobs import Reason
from schemas.record import Blob
from streams.kernels.entropy import JOINT_ORDER, Secret, party_key
from streams.kernels.holdout import draw, draw_order
from streams.kernels.ristretto import MATCH_BYTES, TAG_BYTES
from streams.kernels.tag_join import NOWHERE, join_tags
from streams.machines.align.blinding import ready_of, shuffle
from streams.machines.align.tag_table import TagTable
from streams.machines.task import RefusalError, violation

_MATCH_WORDS = MATCH_BYTES // 8
_DRAW_BYTES = 16

Rows = NDArray[np.uint32]


def intersect(state: GuestAlignment, secret: Secret) -> GuestAlignment:
    """Find the joint rows, draw their order, and lay out what each host is to get. Raises `RefusalError`."""
    setup = state.setup
    orders = [shuffle(secret, setup, link.party) for link in state.links]
    found = [_find_positions(link, order) for link, order in zip(state.links, orders, strict=True)]
    common = np.logical_and.reduce([positions != NOWHERE for positions in found])
    if not common.any():
        sizes = ", ".join(
            f"{link.party}: {np.count_nonzero(positions != NOWHERE)} of its rows"
            for link, positions in zip(state.links, found, strict=True)
        )
        raise RefusalError(
            Reason.EMPTY_INTERSECTION,
            setup.guest,
            f"no row of {setup.guest} is in the table of every host (matches with {sizes});"
            " check that both sides use the same kind of identifier and the same align.id_type",
        )
    rows = _draw_rows(party_key(secret, JOINT_ORDER), state.links[0], orders[0], common)
    links = tuple(
        replace(link, matches=_lay_out(setup, link, positions[rows]))
        for link, positions in zip(state.links, found, strict=True)
    )
    return replace(state, links=links, rows=Blob.of(rows.astype("<u4").tobytes()), n_joint=len(rows))


def _find_positions(link: AlignLink, order: Rows) -> Rows:
    """For each own row its position in the host's order, or `NOWHERE`. Raises `RefusalError` when tags repeat."""
    theirs = TagTable(link.doubled, TAG_BYTES)
    join = join_tags(TagTable(link.returned), theirs)
    if join.repeated_in_second:
        total = ready_of(link).rows
        raise violation(link.party, f"{join.repeated_in_second} of the {total} points of {link.party} repeat")
    if join.repeated_in_first:
        raise violation(link.party, f"{link.party} gave the same tag for two different points")
    positions = np.empty(len(order), dtype=np.uint32)
    positions[order] = join.places
    return positions


def _draw_rows(key: bytes, link: AlignLink, order: Rows, common: NDArray[np.bool_]) -> Rows:
    """The common rows in the joint order."""
    rows = np.flatnonzero(common).astype(np.uint32)
    draws = np.empty((len(rows), _DRAW_BYTES), dtype=np.uint8)
    start = 0
    for blob in link.ids:
        ids: list[str] = json.loads(blob.content)
        own = order[start : start + len(ids)]
        start += len(ids)
        kept = np.flatnonzero(common[own])
        drawn = draw(key, [ids[place] for place in kept.tolist()])
        draws[np.searchsorted(rows, own[kept])] = np.frombuffer(drawn, dtype=np.uint8).reshape(-1, _DRAW_BYTES)
    return rows[draw_order(draws)]


def _lay_out(setup: AlignSetup, link: AlignLink, positions: Rows) -> tuple[Blob, ...]:
    """Positions, then proofs, of each chunk of joint rows."""
    proofs = _find_proofs(link, positions)
    starts = range(0, len(positions), setup.chunk_points)
    chunks = (slice(start, start + setup.chunk_points) for start in starts)
    return tuple(Blob.of(positions[chunk].astype("<u4").tobytes() + proofs[chunk].tobytes()) for chunk in chunks)


def _find_proofs(link: AlignLink, positions: Rows) -> NDArray[np.uint64]:
    """The second halves of the digests at these positions, one chunk of the host's after the other."""
    proofs = np.empty((len(positions), _MATCH_WORDS), dtype="<u8")
    ascending = np.argsort(positions)
    first = 0
    start = 0
    for words in TagTable(link.doubled, TAG_BYTES, last=True):
        last = int(np.searchsorted(positions, start + len(words), sorter=ascending))
        here = ascending[first:last]
        proofs[here] = words[positions[here] - np.uint32(start)]
        first = last
        start += len(words)
    return proofs
