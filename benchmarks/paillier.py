"""Paillier operations a second at 2048 bits, beside python-paillier (with gmpy2) on one core in the same run."""

from __future__ import annotations

from typing import Any

import numpy as np
from phe import paillier as phe_paillier

from benchmarks._timing import seconds_per_item
from streams.kernels import phe_adapter
from streams.kernels.entropy import Draws, prf
from streams.kernels.multiexp import weighted_products
from streams.kernels.paillier import (
    OwnerEncryptor,
    Refresher,
    add,
    decrypt_many,
    generate_keys,
    scale,
    textbook_residues,
)

BITS = 2048
SEED = bytes(range(32))

#: The product X^T [[d]]: rows, features, bits of a weight with its sign.
ROWS, FEATURES, WEIGHT_BITS = 1000, 4, 17


def run() -> dict[str, Any]:
    """Operations a second of both libraries and their ratio; for the product, seconds."""
    private = generate_keys(prf(SEED, "benchmark key"), BITS)
    public = private.public
    encryptor, refresher = OwnerEncryptor(private), Refresher(public, SEED)
    phe_public, phe_private = phe_adapter.to_phe_public(public), phe_adapter.to_phe_private(private)
    draws = Draws(prf(SEED, "benchmark draws"))

    few = list(range(20))
    many = list(range(ROWS))
    ours = encryptor.encrypt_many(many, draws)
    weights = np.random.default_rng(1).integers(-(1 << (WEIGHT_BITS - 1)), 1 << (WEIGHT_BITS - 1), (ROWS, FEATURES))
    factor = (1 << 53) - 1
    phe_few = [phe_public.encrypt(value) for value in few]
    phe_many = [phe_adapter.to_phe_ciphertext(public, ciphertext) for ciphertext in ours]

    def phe_product() -> list[phe_paillier.EncryptedNumber]:
        # Every fourth row only, and one feature: the time is scaled up, it is linear in both.
        return [
            sum((c * int(w) for c, w in zip(phe_many[::4], column[::4], strict=True)), phe_public.encrypt(0))
            for column in weights.T[:1]
        ]

    per_second = {
        "encrypt (own key)": (
            seconds_per_item(lambda: encryptor.encrypt_many(many[:400], draws), 400),
            seconds_per_item(lambda: [phe_public.encrypt(value) for value in few], len(few)),
        ),
        "decrypt": (
            seconds_per_item(lambda: decrypt_many(private, ours[:50]), 50),
            seconds_per_item(lambda: [phe_private.decrypt(c) for c in phe_few], len(few)),
        ),
        "add": (
            seconds_per_item(lambda: [add(public, a, ours[0]) for a in ours], ROWS),
            seconds_per_item(lambda: [a + phe_many[0] for a in phe_many], ROWS),
        ),
        "multiply by a 53-bit number": (
            seconds_per_item(lambda: [scale(public, a, factor) for a in ours[:200]], 200),
            seconds_per_item(lambda: [a * factor for a in phe_many[:200]], 200),
        ),
        "refresh toward the key owner": (
            seconds_per_item(lambda: refresher.refresh_many(ours[:100], draws), 100),
            # phe's obfuscate() does this to a number: r^n anew.
            seconds_per_item(lambda: textbook_residues(public, 10, draws), 10),
        ),
        f"X^T [[d]], a row and feature, {WEIGHT_BITS} bits": (
            seconds_per_item(lambda: weighted_products(ours, weights, public), ROWS * FEATURES),
            seconds_per_item(phe_product, ROWS // 4),
        ),
    }
    return {
        "key bits": BITS,
        "unit": "operations a second on one core",
        "operations": {
            name: {"isthmus": 1 / ours_s, "phe": 1 / phe_s, "ratio": phe_s / ours_s}
            for name, (ours_s, phe_s) in per_second.items()
        },
    }
