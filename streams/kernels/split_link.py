"""The split-link step: additive shares of residuals of which no party knows any.

    d_i = phi_0(a_i) - y_i + sum_k phi_k(a_i) psi_k(b_i),    e_i - rho_i = d_i + {-1, 0, 1} modulo 2^s

a is the guest's logit, b the host's. The host encrypts, for each row, all psi_k in one plaintext (row slots, see
`streams.kernels.packing`). The guest raises to its phi_k, multiplies the rows of a group together, pads the whole
plaintext with a number uniform modulo n and refreshes. The host opens the group: slot j is e_i; the same slot of the
pad is rho_i.

Each party then multiplies its own columns with both shares (`streams.kernels.residual_product`). So the slots of a
group never hold sums over the table; s is chosen for those sums because shares are modulo 2^s.

The bound of a sum. Columns are standardised on the very rows that are summed: sum_i x_ij^2 <= n, hence
sum_i |x_ij| <= n (Cauchy-Schwarz), and clipping only shortens. So |X^T d| <= D n, whatever the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_point import FX, RESIDUAL_BITS
from streams.kernels.link_table import LinkTable
from streams.kernels.multiexp import combined_powers
from streams.kernels.packing import ConvolutionLayout, Shares, SlotLayout, slot_bits_for, usable_bits
from streams.kernels.paillier import (
    Ciphertext,
    FreshCiphertext,
    OwnerEncryptor,
    PrivateKey,
    PublicKey,
    Refresher,
    add_plain,
    decrypt_many,
)
from streams.kernels.residual_product import ProductLayout, pad_plaintexts


@dataclass(frozen=True)
class SplitLayout:
    """The row slots of residuals, and how the shares of both parties meet the columns."""

    slots: SlotLayout
    products: ProductLayout


def column_bound(rows: int) -> int:
    """The largest sum of |x_ij| over a standardised column's rows in fixed point: n, and half a unit of rounding a row.

    The intercept's column of ones meets it exactly.
    """
    return (rows << FX) + rows


def residual_bound(table: LinkTable, rank: int) -> int:
    """The largest |d| inside the box: the approximation leaves [0, 1] by no more than its sup error.

    Twice the measured sup error, and 2^-9 for the rounding of interpolated values, leave room between grid points.
    """
    return math.ceil((1 + 2 * table.sup_error(rank) + 2**-9) * (1 << RESIDUAL_BITS))


def choose_split_layout(table: LinkTable, rank: int, rows: int, modulus_bits: int, drop_bits: int) -> SplitLayout:
    """Slots wide enough for X^T d over all `rows`, and as many rows in a plaintext as then fit.

    Raises:
        ValueError: the modulus has no room for one row at this rank.
    """
    slot_bits = slot_bits_for(residual_bound(table, rank) * column_bound(rows))
    # What a slot of a group really holds is one residual, or cross terms of at most two rows: only the topmost slot
    # can make use of that, as the others need their s bits for the pad's shares.
    value_bits = slot_bits_for(2 * table.slot_bound(rank))
    slots = (usable_bits(modulus_bits) - value_bits) // slot_bits + 1
    group = (slots + 1) // rank - 1
    if group < 1:
        needed = (2 * rank - 2) * slot_bits + value_bits + modulus_bits - usable_bits(modulus_bits)
        raise ValueError(
            f"rank {rank} on {rows} rows needs a modulus of {needed} bits, not {modulus_bits}: use a longer key or a "
            "lower rank"
        )
    convolution = ConvolutionLayout.choose(modulus_bits, (1 << slot_bits) * column_bound(rows))
    return SplitLayout(SlotLayout(rank, group, slot_bits), ProductLayout(convolution, slot_bits, drop_bits))


def choose_residual_layout(rows: int, modulus_bits: int, drop_bits: int) -> ProductLayout:
    """The layout where one party knows the residuals: |d| <= 2^RESIDUAL_BITS."""
    bound = (1 << RESIDUAL_BITS) * column_bound(rows)
    return ProductLayout(ConvolutionLayout.choose(modulus_bits, bound), slot_bits_for(bound), drop_bits)


def encrypt_basis(
    encryptor: OwnerEncryptor, psi: NDArray[np.int64], layout: SplitLayout, draws: Draws
) -> list[FreshCiphertext]:
    """Host: one ciphertext a row; `psi` (rows, rank), the first row at place 0 of its group."""
    return encryptor.encrypt_many(layout.slots.basis_plaintexts(psi, 0), draws)


def combine_rows(
    received: Sequence[Ciphertext],
    phi: NDArray[np.int64],
    offsets: NDArray[np.int64],
    layout: SplitLayout,
    public: PublicKey,
) -> list[Ciphertext]:
    """Guest: for each group of rows one ciphertext with every row's residual in its slot. Not yet sendable.

    `phi` (rows, rank) are phi_1..phi_R, `offsets` (rows,) are phi_0 - y. Row i is raised to sum_k phi_k B^(R-1-k).

    Raises:
        ValueError: the number of ciphertexts does not fit the rows.
    """
    rows, rank = phi.shape
    if len(received) != rows or rank != layout.slots.rank or offsets.shape != (rows,):
        raise ValueError(f"{rows} rows of rank {rank}, {offsets.shape} offsets, {len(received)} ciphertexts")
    slots, per = layout.slots, layout.slots.rows_per_plaintext
    shifts = [slots.slot_bits * (rank - 1 - k) for k in range(rank)]
    groups = combined_powers(received, phi, shifts, per, public)
    places = offsets.tolist()
    return [
        add_plain(public, group, sum(slots.at_target(value, place) for place, value in enumerate(places[i : i + per])))
        for group, i in zip(groups, range(0, rows, per), strict=True)
    ]


def mask_residuals(
    groups: Sequence[Ciphertext], rows: int, refresher: Refresher, layout: SplitLayout, key: bytes
) -> tuple[list[FreshCiphertext], Shares]:
    """Guest: pad and refresh; (what may be sent, the guest's shares rho of the rows).

    `key` is a PRF value bound to all that the residuals depend on; it must serve this purpose once.
    """
    padded, pads = pad_plaintexts(groups, refresher.public, prf(key, "pad"))
    fresh = refresher.refresh_many(padded, Draws(prf(key, "refresh")))
    return fresh, layout.slots.row_shares(pads, rows)


def open_residuals(private: PrivateKey, received: Sequence[Ciphertext], rows: int, layout: SplitLayout) -> Shares:
    """Host: its shares e of the rows. Raises ValueError when the number of groups does not fit the rows."""
    n = private.public.n
    return layout.slots.row_shares([value % n for value in decrypt_many(private, received)], rows)
