"""The split-link step: additive shares of residuals of which no party knows any.

    d_i = phi_0(a_i) - y_i + sum_k phi_k(a_i) psi_k(b_i),    e_i - rho_i = d_i + {-1, 0, 1} modulo 2^s

a is the guest's logit, b the host's. The host encrypts, for each row, all psi_k in one plaintext (row slots, see
`streams.kernels.packing`). The guest raises to its phi_k, multiplies the rows of a group together, pads the whole
plaintext with a number uniform modulo n and refreshes. The host opens the group: slot j is e_i; the same slot of the
pad is rho_i.

Each party then multiplies its own columns with both shares (`streams.kernels.residual_product`). So the slots of a
group never hold sums over the table; s is chosen for those sums because shares are modulo 2^s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_point import RESIDUAL_BITS
from streams.kernels.link_table import LinkTable
from streams.kernels.multiexp import combined_powers
from streams.kernels.packing import ConvolutionLayout, Shares, SlotLayout, slot_bits_for
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


def choose_split_layout(
    table: LinkTable, rank: int, weight_bound: int, rows: int, modulus_bits: int, drop_bits: int
) -> SplitLayout:
    """Slots wide enough for X^T d over all `rows` with |x| <= weight_bound, from the table's own maxima.

    Raises:
        ValueError: the modulus has no room for one row at this rank.
    """
    gradient_bound = table.residual_bound(rank) * weight_bound * rows
    # A row's cross terms share the slots of its neighbours: at most two rows meet in a slot.
    slots = SlotLayout.choose(modulus_bits, rank, max(gradient_bound, 2 * table.slot_bound(rank)))
    share_bound = (1 << slots.slot_bits) * weight_bound * rows
    convolution = ConvolutionLayout.choose(modulus_bits, share_bound)
    return SplitLayout(slots, ProductLayout(convolution, slots.slot_bits, drop_bits))


def choose_residual_layout(weight_bound: int, rows: int, modulus_bits: int, drop_bits: int) -> ProductLayout:
    """The layout where one party knows the residuals: |d| <= 2^RESIDUAL_BITS."""
    bound = (1 << RESIDUAL_BITS) * weight_bound * rows
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
