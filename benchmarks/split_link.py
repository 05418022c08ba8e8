"""Processor time a row of one split-link pass, piece by piece, at 2048 bits and the ranks that the trainer uses.

The same arithmetic as the train stage, without messages: one party's encryption, the other's powers, pads and
refresh, decryption into shares, and both gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks._timing import seconds_per_item
from streams.kernels.entropy import Draws, prf
from streams.kernels.multiexp import combined_powers, powers, weighted_products
from streams.kernels.packing import ConvolutionLayout, SlotLayout, centre, convolve, row_slot_bound
from streams.kernels.paillier import OwnerEncryptor, Refresher, add_plain, decrypt_many, generate_keys, product

BITS = 2048
SEED = bytes(range(32))
ROWS = 420
JOB_ROWS = 21_000
WEIGHT = 1 << 16
#: Fractional bits of the link table.
TABLE_BITS = 14


def run() -> dict[str, Any]:
    """Microseconds a row; for gradients a row and feature."""
    return {
        "key bits": BITS,
        "unit": "microseconds a row on one core (gradients: a row and feature)",
        **{f"rank {rank}": measure(rank) for rank in (4, 6)},
    }


def measure(rank: int) -> dict[str, Any]:
    """One chunk of rows at one rank. The result is checked before it is timed."""
    host, guest = (generate_keys(prf(SEED, "split-link benchmark", party), BITS) for party in ("host", "guest"))
    host_encryptor, guest_encryptor = OwnerEncryptor(host), OwnerEncryptor(guest)
    refresher = Refresher(host.public, SEED)
    rng = np.random.default_rng(rank)
    phi, psi = (rng.integers(-(1 << TABLE_BITS), (1 << TABLE_BITS) + 1, (ROWS, rank)) for _ in range(2))
    offsets = rng.integers(-(1 << 2 * TABLE_BITS), 1 << 2 * TABLE_BITS, ROWS)
    weights = rng.integers(-(1 << 14), 1 << 14, (ROWS, 5))
    table_max = [1 << TABLE_BITS] * rank
    layout = SlotLayout.choose(BITS, rank, row_slot_bound(table_max, table_max, 1 << 2 * TABLE_BITS, WEIGHT, JOB_ROWS))
    convolution = ConvolutionLayout.choose(BITS, (1 << layout.slot_bits) * WEIGHT * JOB_ROWS)
    per = layout.rows_per_plaintext
    shifts = [layout.slot_bits * (rank - 1 - k) for k in range(rank)]
    draws = Draws(prf(SEED, "split-link draws"))

    sent = host_encryptor.encrypt_many(layout.basis_plaintexts(psi, 0), draws)
    at_targets = [layout.at_target(offset, row) for row, offset in enumerate(offsets.tolist())]
    single = powers(sent, layout.exponents(phi), host.public)
    rows = [add_plain(host.public, power, offset) for power, offset in zip(single, at_targets, strict=True)]
    groups = [product(host.public, rows[i : i + per]) for i in range(0, ROWS, per)]
    pads = [draws.below(host.public.n) for _ in groups]
    padded = refresher.refresh_many([add_plain(host.public, g, p) for g, p in zip(groups, pads, strict=True)], draws)
    host_shares = layout.row_shares([value % host.public.n for value in decrypt_many(host, padded)], ROWS)
    guest_shares = layout.row_shares(pads, ROWS)
    residuals = (phi * psi).sum(axis=1) + offsets
    for own, other, residual in zip(host_shares, guest_shares, residuals, strict=True):
        if abs(centre(int(own) - int(other) - int(residual), layout.slot_bits)) > 1:
            raise ArithmeticError("the shares do not add up to the residual: the figures would be worthless")
    packed = convolution.pack(guest_shares)
    shares_sent = guest_encryptor.encrypt_many(packed, draws)

    per_row = {
        "host: encrypt basis values": lambda: host_encryptor.encrypt_many(layout.basis_plaintexts(psi, 0), draws),
        "guest: powers, row by row": lambda: powers(sent, layout.exponents(phi), host.public),
        "guest: powers, squarings shared by a plaintext's rows": lambda: combined_powers(
            sent, phi, shifts, per, host.public
        ),
        "guest: refresh": lambda: refresher.refresh_many(groups, draws),
        "host: decrypt to shares": lambda: layout.row_shares(
            [value % host.public.n for value in decrypt_many(host, padded)], ROWS
        ),
        "guest: encrypt own shares": lambda: guest_encryptor.encrypt_many(packed, draws),
    }
    per_feature = {
        "gradient from single rows": lambda: weighted_products(rows, weights, host.public),
        "gradient from packed shares": lambda: convolve(shares_sent, weights, convolution, guest.public),
    }
    return {
        "rows a ciphertext": per,
        "slot bits": layout.slot_bits,
        "shares a ciphertext": convolution.values_per_plaintext,
        **{name: 1e6 * seconds_per_item(work, ROWS, 2) for name, work in per_row.items()},
        **{name: 1e6 * seconds_per_item(work, ROWS * 5, 2) for name, work in per_feature.items()},
    }
