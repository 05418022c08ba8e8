"""The separable form of the logistic link: sigma(a + b) ~ phi_0(a) + sum_{k=1..R} phi_k(a) psi_k(b).

a is the guest's logit in [-A, A], b the host's in [-B, B]. The functions are a truncated singular value decomposition
after removing the row mean phi_0, a public table made once by `benchmarks/link_table_generator.py`; columns are nested,
so one table serves every rank up to its `max_rank`. `Basis` says where the table is exact: evenly over the box, or in
its middle, where most logits are, which reaches the same AUC with two ranks less and gives up the corners. Everything
here is integer arithmetic on 4097-point tables with linear interpolation, hence the same on every machine. Log links
need no table (they are exactly separable at rank 1).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from streams.kernels.fixed_point import LOGIT_BITS, RESIDUAL_BITS
from streams.kernels.link_tables import arrays_digest, load_pinned

#: Intervals per table; a power of two, so that every clip that divides 2^9 A is a whole number of logit units.
INTERVALS = 4096
POINTS = INTERVALS + 1


class Basis(StrEnum):
    """How the decomposition weighs the box: (1 - x^2)^-1/2 on both sides, or (1 - x^2)^4."""

    #: Smallest sup error for its rank; the stated sup error is the guarantee.
    EVEN = "even"
    #: Smallest error for logits that crowd around zero; the sup error is that of the corners, ten times larger.
    CENTRED = "centred"


#: (guest clip, host clip) of the even tables. The rank follows from the smaller side; a wide other side is free.
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
#: (guest clip, host clip) of the centred tables.
CENTRED_BOXES: tuple[tuple[int, int], ...] = ((8, 4), (8, 8))
TABLES: tuple[tuple[Basis, int, int], ...] = (
    *((Basis.EVEN, *box) for box in BOXES),
    *((Basis.CENTRED, *box) for box in CENTRED_BOXES),
)
#: SHA-256 of each table's contents; the digest goes into the job's record and into the model.
PINNED: dict[tuple[Basis, int, int], str] = {
    (Basis.EVEN, 4, 4): "6ce3ea9bf198ff42cb3155e50a44e2d561f33ccfdfcefae5071b120e9f1c2ead",
    (Basis.EVEN, 8, 4): "a209420392bd6300f763a3df591a9b428073b9db5bb40c51740a8cb0b9d6ce8b",
    (Basis.EVEN, 24, 4): "9c39640f2d89a9ab6642357cfa3a95998426c0a412e9dca21079b29c61affd60",
    (Basis.EVEN, 4, 24): "8c128bb843c475f5aface02df3d99589b30e537855524b91784b05f5644591cd",
    (Basis.EVEN, 24, 6): "52fe98486962051466717ce21a6a8947dd41c6f2c505e1c3de1f85cc6c07de60",
    (Basis.EVEN, 6, 24): "5460ad9841a2899572855706266fd046cd0fb26835fe5c7f1188a6b77623fbab",
    (Basis.EVEN, 8, 8): "4e066c7f7cb5c427a068cfd0de2f8a08c0d9ad0c76e2263c5f091ad4f809a0f5",
    (Basis.EVEN, 24, 8): "78d83c007c63783fd4eb4e852470b391a15310f422f417ab0c0e301c2f775483",
    (Basis.EVEN, 8, 24): "8d77b264596543a64f1af127677bcce5b5b9d524fe60e3f1024fbbf7102e0ce6",
    (Basis.EVEN, 12, 12): "bef7136ccfdc8c11490412a9436ec8ecc2124df6ec4be322c911e424d534f48e",
    (Basis.EVEN, 24, 12): "5e7b0f41116d681b771ad5d6136f1d72ea8ba4818de4ad3a8ecefc8c1bab63bf",
    (Basis.EVEN, 12, 24): "874eb0ab3eb7d89bb52c4f06d3d389009d2597d3b252f5fac77d5a8a8a5619cf",
    (Basis.EVEN, 16, 16): "9cf681e2d54c15077ef091aa2ea6b4784bd3453594856a35525064e4aaceb60e",
    (Basis.EVEN, 24, 24): "b9e65669aadbc1ca69d8bf0a981e6d915e95afe888eea1aa057a192fa883875a",
    (Basis.CENTRED, 8, 4): "240a61a194e6c846551bccb7fae6996da4bc78f0dc195567a7e0300ce62078de",
    (Basis.CENTRED, 8, 8): "fd8a9618c77bee471c23b6831bc0b57369548ec9a1cef8606c447288b80e27d7",
}

#: A fit with more than this share of its training rows beyond the box is refused. In benchmarks/glm_simulation.py 5 %
#: outside still gave the pooled AUC to 1e-4 and the weights to 1e-2; default_credit has 0.13 % on box (8, 4). Far above
#: that the clipped residuals no longer pull back and weights can run away.
MAX_SHARE_OUTSIDE = 0.01


class NoTableError(ValueError):
    """No table covers the clips or reaches the sup error; the text lists what there is."""


@dataclass(frozen=True, eq=False)
class TableArrays:
    """phi_0 int32 (4097,) with 28 fractional bits; phi, psi int16 (4097, max_rank) with 14; sup_error (max_rank,)."""

    phi_0: NDArray[np.int32]
    phi: NDArray[np.int16]
    psi: NDArray[np.int16]
    sup_error: NDArray[np.float64]


def file_name(basis: Basis, guest_clip: int, host_clip: int) -> str:
    """The file of a table inside the package `streams.kernels.link_tables`."""
    return f"logistic_{basis}_{guest_clip}_{host_clip}.npz"


def table_name(basis: Basis, guest_clip: int, host_clip: int) -> str:
    """What the digest names."""
    return f"logistic/{basis}/{guest_clip}/{host_clip}"


def content_digest(basis: Basis, guest_clip: int, host_clip: int, arrays: TableArrays) -> bytes:
    """SHA-256 of a table: basis, box and contents."""
    name = table_name(basis, guest_clip, host_clip)
    return arrays_digest(name, (arrays.phi_0, arrays.phi, arrays.psi, arrays.sup_error))


class LinkTable:
    """One box's table. Use `choose_table`, which checks the digest."""

    def __init__(self, basis: Basis, guest_clip: int, host_clip: int, arrays: TableArrays) -> None:
        self.basis = basis
        self.guest_clip = guest_clip
        self.host_clip = host_clip
        self.arrays = arrays
        self.max_rank = int(arrays.phi.shape[1])
        self.digest = content_digest(basis, guest_clip, host_clip, arrays)

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


@functools.lru_cache(maxsize=len(TABLES))
def load_table(guest_clip: int, host_clip: int, basis: Basis = Basis.EVEN) -> LinkTable:
    """The table of exactly this box, checked against its pinned digest."""
    key = (basis, guest_clip, host_clip)
    if key not in PINNED:
        raise NoTableError(f"no {basis} table of box ({guest_clip}, {host_clip}); there are {_boxes_text(basis)}")
    columns = ("phi_0", "phi", "psi", "sup_error")
    stored = load_pinned(file_name(*key), table_name(*key), columns, PINNED[key])
    return LinkTable(*key, TableArrays(*stored))  # type: ignore[arg-type]


def choose_table(guest_clip: float, host_clip: float, basis: Basis = Basis.EVEN) -> LinkTable:
    """The smallest box that covers both clips (least area, then least guest clip).

    Raises:
        NoTableError: a clip is not positive or no box of this basis is large enough.
    """
    if not (guest_clip > 0 and host_clip > 0):
        raise NoTableError(f"logit clips must be positive, got {guest_clip} and {host_clip}")
    boxes = [(a, b) for kind, a, b in TABLES if kind == basis and a >= guest_clip and b >= host_clip]
    if not boxes:
        raise NoTableError(
            f"no {basis} table covers logits of +-{guest_clip:g} at the guest and +-{host_clip:g} at the host; "
            f"the boxes are {_boxes_text(basis)}"
        )
    return load_table(*min(boxes, key=lambda box: (box[0] * box[1], box[0])), basis)


def _boxes_text(basis: Basis) -> str:
    return ", ".join(f"({a}, {b})" for kind, a, b in TABLES if kind == basis)


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
