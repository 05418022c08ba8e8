"""The separable form of the logistic link: sigma(a + b) ~ phi_0(a) + sum_{k=1..R} phi_k(a) psi_k(b).

a is the guest's logit in [-A, A], b the host's in [-B, B]. The functions are a truncated singular value decomposition
after removing the row mean phi_0, a public table made once by `benchmarks/link_table_generator.py`; columns are nested,
so one table serves every rank up to its `max_rank`. Everything here is integer arithmetic on 4097-point tables with
linear interpolation, hence the same on every machine. Log links need no table (they are exactly separable at rank 1).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.fixed_point import LOGIT_BITS, RESIDUAL_BITS
from streams.kernels.link_tables import arrays_digest, load_pinned

#: Intervals per table; a power of two, so that every clip that divides 2^9 A is a whole number of logit units.
INTERVALS = 4096
POINTS = INTERVALS + 1

#: (guest clip, host clip) of the tables that exist. The rank follows from the smaller side; a wide other side is free.
BOXES: tuple[tuple[int, int], ...] = (
    (4, 4),
    (8, 4),
    (24, 4),
    (4, 24),
    (24, 6),
    (6, 24),
    (8, 8),
    (24, 8),
    (8, 24),
    (12, 12),
    (24, 12),
    (12, 24),
    (16, 16),
    (24, 24),
)
#: SHA-256 of each table's contents; the digest goes into the job's record and into the model.
PINNED: dict[tuple[int, int], str] = {
    (4, 4): "0924bd4d9b9045a91e026b11fd915f1c2d49ea8896cf0e538a396be8b12bd60f",
    (8, 4): "d23415d2652a757c6814f1fa000c6352719c9fefe4b9aa464c315d9d9e920121",
    (24, 4): "5096dbdfcd665d9b9c877f129b097bec4bca6f3332eb0f75eb18172eade2757f",
    (4, 24): "23a5066f8de46d2a4cde365960ac3e6f35e27ecdda72e4ae5269d3ffbe2c3c04",
    (24, 6): "9e4836cd3af625adc95e0b6394ab91204dbeea4d2a823f58f885a2c5f5c072b6",
    (6, 24): "fae764c3924c8c597070bcfe992f6cbf06753bea65457f5cb1dd14898c7aed9a",
    (8, 8): "bb1f81bd248c8547d1f87dcaf5841e4990ee3c5069fa4f6f178eb1facfbede57",
    (24, 8): "59451f6abdddded6f342739c6cb3a6ab4c3e606a9ae08dad1046498fcd42d427",
    (8, 24): "8e8042991032a0dbfa93154f6776e094a54f76122484bc9ca41e94247db3d68f",
    (12, 12): "e26ae4a63fc3ada8e2fc7c706feeefa115ec37962b574bdc3acccf8d492a6411",
    (24, 12): "3146a6186579de06d990625756f5bf3011e22290f70eb104e490fb89a5db800a",
    (12, 24): "43e1660ddf5efa6854bc1cfd871795c4adc3b7830f9ec7d966a12df7dc53b0bd",
    (16, 16): "c0652f25701e26879664936d21cd5bf13b857924dc245cac599e19977a886e52",
    (24, 24): "cf960c79a275770747b27fe00c3e919e013b32bb324c549951ead7ba4933e2eb",
}


class NoTableError(ValueError):
    """No table covers the clips or reaches the sup error; the text lists what there is."""


@dataclass(frozen=True, eq=False)
class TableArrays:
    """phi_0 int32 (4097,) with 28 fractional bits; phi, psi int16 (4097, max_rank) with 14; sup_error (max_rank,)."""

    phi_0: NDArray[np.int32]
    phi: NDArray[np.int16]
    psi: NDArray[np.int16]
    sup_error: NDArray[np.float64]


def file_name(guest_clip: int, host_clip: int) -> str:
    """The file of a box inside the package `streams.kernels.link_tables`."""
    return f"logistic_{guest_clip}_{host_clip}.npz"


def content_digest(guest_clip: int, host_clip: int, arrays: TableArrays) -> bytes:
    """SHA-256 of a table: box and contents."""
    name = f"logistic/{guest_clip}/{host_clip}"
    return arrays_digest(name, (arrays.phi_0, arrays.phi, arrays.psi, arrays.sup_error))


class LinkTable:
    """One box's table. Use `choose_table`, which checks the digest."""

    def __init__(self, guest_clip: int, host_clip: int, arrays: TableArrays) -> None:
        self.guest_clip = guest_clip
        self.host_clip = host_clip
        self.arrays = arrays
        self.max_rank = int(arrays.phi.shape[1])
        self.digest = content_digest(guest_clip, host_clip, arrays)

    def sup_error(self, rank: int) -> float:
        """max |sigma(a+b) - approximation| over the box with the integer tables, measured when the table was made."""
        self._check_rank(rank)
        return float(self.arrays.sup_error[rank - 1])

    def rank_for(self, sup_error: float) -> int:
        """The smallest rank with at most this sup error.

        Raises:
            NoTableError: even the largest rank of this box is less exact.
        """
        for rank in range(1, self.max_rank + 1):
            if self.sup_error(rank) <= sup_error:
                return rank
        best = self.sup_error(self.max_rank)
        raise NoTableError(
            f"the table of box ({self.guest_clip}, {self.host_clip}) reaches a sup error of {best:.1e} at rank "
            f"{self.max_rank}, not {sup_error:.1e}: allow a larger sup_error or a smaller logit clip"
        )

    def phi(self, logits: NDArray[np.int64], rank: int) -> NDArray[np.int64]:
        """The guest's functions, shape (n, rank + 1): column 0 is phi_0 with 28 fractional bits, the others have 14.

        Logits (LOGIT_BITS fractional bits) beyond the box are clipped to it.
        """
        self._check_rank(rank)
        index, part, step = _locate(logits, self.guest_clip)
        result = np.empty((logits.shape[0], rank + 1), dtype=np.int64)
        result[:, 0] = _interpolate(self.arrays.phi_0[:, None].astype(np.int64), index, part, step)[:, 0]
        result[:, 1:] = _interpolate(self.arrays.phi[:, :rank].astype(np.int64), index, part, step)
        return result

    def psi(self, logits: NDArray[np.int64], rank: int) -> NDArray[np.int64]:
        """The host's functions, shape (n, rank), 14 fractional bits; logits beyond the box are clipped to it."""
        self._check_rank(rank)
        index, part, step = _locate(logits, self.host_clip)
        return _interpolate(self.arrays.psi[:, :rank].astype(np.int64), index, part, step)

    def phi_maxima(self, rank: int) -> tuple[int, ...]:
        """max |phi_k| of k = 1..rank, integers with 14 fractional bits (interpolation cannot exceed them)."""
        self._check_rank(rank)
        return tuple(int(value) for value in np.abs(self.arrays.phi[:, :rank].astype(np.int64)).max(axis=0))

    def psi_maxima(self, rank: int) -> tuple[int, ...]:
        """max |psi_k| of k = 1..rank, integers with 14 fractional bits."""
        self._check_rank(rank)
        return tuple(int(value) for value in np.abs(self.arrays.psi[:, :rank].astype(np.int64)).max(axis=0))

    def phi_0_maximum(self) -> int:
        """max |phi_0|, an integer with 28 fractional bits."""
        return int(np.abs(self.arrays.phi_0.astype(np.int64)).max())

    def residual_bound(self, rank: int) -> int:
        """|phi_0 - y + sum phi_k psi_k| never exceeds this (28 fractional bits), whatever the rows."""
        products = zip(self.phi_maxima(rank), self.psi_maxima(rank), strict=True)
        return self.phi_0_maximum() + (1 << RESIDUAL_BITS) + sum(phi * psi for phi, psi in products)

    def slot_bound(self, rank: int) -> int:
        """Bound on every slot of Psi_i * Phi_i, cross terms (fixed k - l) and target, 28 fractional bits.

        From the tables' maxima, so it holds whatever logits go in.
        """
        phi, psi = self.phi_maxima(rank), self.psi_maxima(rank)
        diagonals = [
            sum(psi[k] * phi[k - shift] for k in range(rank) if 0 <= k - shift < rank)
            for shift in range(1 - rank, rank)
        ]
        return max(self.residual_bound(rank), *diagonals)

    def _check_rank(self, rank: int) -> None:
        if not 1 <= rank <= self.max_rank:
            raise NoTableError(
                f"rank {rank}: the table of box ({self.guest_clip}, {self.host_clip}) has ranks 1 to {self.max_rank}"
            )


def approximate_residuals(phi: NDArray[np.int64], psi: NDArray[np.int64], label: NDArray[np.int8]) -> NDArray[np.int64]:
    """phi_0 - y + sum_k phi_k psi_k with RESIDUAL_BITS fractional bits: what the protocol computes under encryption."""
    result: NDArray[np.int64] = phi[:, 0] + (phi[:, 1:] * psi).sum(axis=1) - (label.astype(np.int64) << RESIDUAL_BITS)
    return result


@functools.lru_cache(maxsize=len(BOXES))
def load_table(guest_clip: int, host_clip: int) -> LinkTable:
    """The table of exactly this box, checked against its pinned digest."""
    if (guest_clip, host_clip) not in PINNED:
        raise NoTableError(f"no table of box ({guest_clip}, {host_clip}); there are {', '.join(map(str, BOXES))}")
    columns = ("phi_0", "phi", "psi", "sup_error")
    stored = load_pinned(
        file_name(guest_clip, host_clip),
        f"logistic/{guest_clip}/{host_clip}",
        columns,
        PINNED[guest_clip, host_clip],
    )
    return LinkTable(guest_clip, host_clip, TableArrays(*stored))  # type: ignore[arg-type]


def choose_table(guest_clip: float, host_clip: float) -> LinkTable:
    """The smallest box that covers both clips (least area, then least guest clip).

    Raises:
        NoTableError: a clip is not positive or no box is large enough.
    """
    if not (guest_clip > 0 and host_clip > 0):
        raise NoTableError(f"logit clips must be positive, got {guest_clip} and {host_clip}")
    boxes = [box for box in BOXES if box[0] >= guest_clip and box[1] >= host_clip]
    if not boxes:
        raise NoTableError(
            f"no table covers logits of +-{guest_clip:g} at the guest and +-{host_clip:g} at the host; "
            f"the boxes are {', '.join(map(str, BOXES))}"
        )
    return load_table(*min(boxes, key=lambda box: (box[0] * box[1], box[0])))


def count_outside(logits: NDArray[np.int64], clip: int) -> int:
    """How many logits (LOGIT_BITS fractional bits) lie beyond +-clip."""
    return int(np.count_nonzero(np.abs(logits) > (clip << LOGIT_BITS)))


def grid_logits(clip: int, points: int) -> NDArray[np.int64]:
    """Evenly spaced logits from -clip to clip, rounded to the logit format."""
    logits: NDArray[np.int64] = np.rint(np.linspace(-clip, clip, points) * 2**LOGIT_BITS).astype(np.int64)
    return logits


def as_real(logits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits as floats (exact)."""
    return np.ldexp(logits.astype(np.float64), -LOGIT_BITS)


def _locate(logits: NDArray[np.int64], clip: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Interval and position inside it (0..step) of clipped logits; `step` is the interval in logit units."""
    step = (2 * clip << LOGIT_BITS) // INTERVALS
    limit = clip << LOGIT_BITS
    offset = np.clip(logits, -limit, limit) + limit
    index = np.minimum(offset // step, INTERVALS - 1)
    return index, offset - index * step, step


def _interpolate(
    table: NDArray[np.int64], index: NDArray[np.int64], part: NDArray[np.int64], step: int
) -> NDArray[np.int64]:
    """Linear interpolation of all columns, rounded half up; never outside the two neighbours."""
    low = table[index]
    rise = table[index + 1] - low
    result: NDArray[np.int64] = low + (2 * part[:, None] * rise + step) // (2 * step)
    return result
