"""python-paillier as an independent reference: each side reads the other's keys and ciphertexts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phe import paillier as phe_paillier

from streams.kernels import phe_adapter
from streams.kernels.entropy import Draws, prf
from streams.kernels.paillier import OwnerEncryptor, add, add_plain, decrypt, generate_keys, scale

SEED = bytes(range(32))
PRIVATE = generate_keys(SEED, 256)
PUBLIC = PRIVATE.public
PHE_PUBLIC = phe_adapter.to_phe_public(PUBLIC)
PHE_PRIVATE = phe_adapter.to_phe_private(PRIVATE)

values = st.integers(-(2**100), 2**100)


@given(values, values, st.integers(-(2**60), 2**60))
@settings(max_examples=40)
def test_phe_reads_what_we_encrypt_and_compute(a: int, b: int, k: int) -> None:
    x, y = OwnerEncryptor(PRIVATE).encrypt_many([a, b], Draws(prf(SEED, "values", a, b)))
    results = {
        a: x,
        a + b: add(PUBLIC, x, y),
        a - b: add_plain(PUBLIC, x, -b),
        a * k: scale(PUBLIC, x, k),
    }
    for expected, ciphertext in results.items():
        assert PHE_PRIVATE.decrypt(phe_adapter.to_phe_ciphertext(PUBLIC, ciphertext)) == expected


@given(values, values)
@settings(max_examples=20)
def test_we_read_what_phe_encrypts_and_computes(a: int, b: int) -> None:
    x, y = (PHE_PUBLIC.encrypt(phe_paillier.EncodedNumber(PHE_PUBLIC, v % PUBLIC.n, 0)) for v in (a, b))
    assert decrypt(PRIVATE, phe_adapter.from_phe_ciphertext(x + y)) == a + b


def test_keys_convert_both_ways() -> None:
    assert phe_adapter.from_phe_public(PHE_PUBLIC) == PUBLIC
    assert sorted((phe_adapter.from_phe_private(PHE_PRIVATE).p, PHE_PRIVATE.q)) == sorted((PRIVATE.p, PRIVATE.q))
    public, private = phe_paillier.generate_paillier_keypair(n_length=256)
    ours = phe_adapter.from_phe_private(private)
    assert ours.public == phe_adapter.from_phe_public(public)
    assert decrypt(ours, phe_adapter.from_phe_ciphertext(public.encrypt(41) + 1)) == 42


def test_a_scaled_phe_number_is_refused() -> None:
    """phe's exponent depends on the value and travels in clear."""
    with pytest.raises(ValueError, match="exponent 0"):
        phe_adapter.from_phe_ciphertext(PHE_PUBLIC.encrypt(0.5))
