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
from streams.kernels.holdout import draw_order
from streams.kernels.ristretto import MATCH_BYTES, TAG_BYTES
from streams.machines.align.blinding import list_items, shuffle
from streams.machines.task import RefusalError, violation


def intersect(state: GuestAlignment, secret: Secret) -> GuestAlignment:
    """Find the joint rows, draw their order, and lay out what each host is to get. Raises `RefusalError`."""
    setup = state.setup
    hits = {link.party: _find_hits(link, shuffle(secret, setup, link.party)) for link in state.links}
    common = set.intersection(*(set(found) for found in hits.values()))
    if not common:
        sizes = ", ".join(f"{link.party}: {len(hits[link.party])} of its rows" for link in state.links)
        raise RefusalError(
            Reason.EMPTY_INTERSECTION,
            setup.guest,
            f"no row of {setup.guest} is in the table of every host (matches with {sizes});"
            " check that both sides use the same kind of identifier and the same align.id_type",
        )
    ascending = np.array(sorted(common), dtype=np.uint32)
    names = _names(state.links[0], shuffle(secret, setup, state.links[0].party))
    order = draw_order(party_key(secret, JOINT_ORDER), [names[row] for row in ascending.tolist()])
    rows = ascending[order]
    links = tuple(replace(link, matches=_lay_out(setup, hits[link.party], rows)) for link in state.links)
    return replace(state, links=links, rows=Blob.of(rows.astype("<u4").tobytes()), n_joint=len(rows))


def _find_hits(link: AlignLink, order: NDArray[np.uint32]) -> dict[int, tuple[int, bytes]]:
    """Own row -> (position in the host's order, proof). Raises `RefusalError` when tags repeat."""
    theirs: dict[bytes, tuple[int, bytes]] = {}
    tags = list_items(link.doubled, TAG_BYTES)
    for position, tag in enumerate(tags):
        theirs[tag[:MATCH_BYTES]] = (position, tag[MATCH_BYTES:])
    if len(theirs) < len(tags):
        raise violation(link.party, f"{len(tags) - len(theirs)} of the {len(tags)} points of {link.party} repeat")
    found: dict[int, tuple[int, bytes]] = {}
    taken: set[bytes] = set()
    for row, tag in zip(order.tolist(), list_items(link.returned, MATCH_BYTES), strict=True):
        if tag in taken:
            raise violation(link.party, f"{link.party} gave the same tag for two different points")
        taken.add(tag)
        if tag in theirs:
            found[row] = theirs[tag]
    return found


def _lay_out(setup: AlignSetup, hits: dict[int, tuple[int, bytes]], rows: NDArray[np.uint32]) -> tuple[Blob, ...]:
    """Positions, then proofs, of each chunk of joint rows."""
    entries = [hits[row] for row in rows.tolist()]
    blobs = []
    for start in range(0, len(entries), setup.chunk_points):
        chunk = entries[start : start + setup.chunk_points]
        positions = np.array([position for position, _ in chunk], dtype="<u4").tobytes()
        blobs.append(Blob.of(positions + b"".join(proof for _, proof in chunk)))
    return tuple(blobs)


def _names(link: AlignLink, order: NDArray[np.uint32]) -> dict[int, str]:
    """Own row -> id."""
    ids = [each for blob in link.ids for each in json.loads(blob.content)]
    return dict(zip(order.tolist(), ids, strict=True))
