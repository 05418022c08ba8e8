"""What travels beside a ciphertext: python-paillier sends a number's exponent in clear, which tells its magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from phe import paillier as phe_paillier

from streams.kernels import phe_adapter
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_point import LOGIT_BITS, to_fixed
from streams.kernels.paillier import OwnerEncryptor, encode_ciphertexts, generate_keys

SEED = bytes(range(32))
PRIVATE = generate_keys(prf(SEED, "owner"), 256)
PUBLIC = PRIVATE.public
#: Residuals of a fraud model, say: most are small, those of fraud are not.
NUMBERS = [*(0.0001 * k for k in range(1, 40)), *(0.5 + 0.01 * k for k in range(40))]


def test_the_exponents_of_phe_tell_small_numbers_from_large_ones() -> None:
    """Reading only what is sent in clear, without any key.

    Source: the design's notes on encodings (0.001 has exponent -16, 1.0 has -13, the integer 3 has 0).
    """
    theirs = phe_adapter.to_phe_public(PUBLIC)
    seen = np.array([theirs.encrypt(number).exponent for number in NUMBERS])
    is_large = np.array(NUMBERS) >= 0.5
    assert seen[is_large].min() > seen[~is_large].max()
    assert theirs.encrypt(3).exponent == 0 and theirs.encrypt(3.0).exponent < 0, "the type is told as well"


def test_ours_are_integers_of_one_scale_and_one_width() -> None:
    integers = [int(value) for value in to_fixed(NUMBERS, LOGIT_BITS)]
    encrypted = OwnerEncryptor(PRIVATE).encrypt_many(integers, Draws(prf(SEED, "numbers")))
    through_phe = [phe_adapter.to_phe_ciphertext(PUBLIC, ciphertext) for ciphertext in encrypted]
    assert {number.exponent for number in through_phe} == {0}
    assert {len(encode_ciphertexts(PUBLIC, [ciphertext])) for ciphertext in encrypted} == {PUBLIC.ciphertext_bytes}
    opened = [phe_adapter.to_phe_private(PRIVATE).decrypt(number) for number in through_phe]
    assert opened == integers


def test_a_number_with_an_exponent_of_its_own_does_not_come_in() -> None:
    """Nor does one whose exponent grew by a product, as phe's do."""
    theirs = phe_adapter.to_phe_public(PUBLIC)
    for number in (theirs.encrypt(0.001), theirs.encrypt(2) * 0.5):
        assert isinstance(number, phe_paillier.EncryptedNumber) and number.exponent < 0
        with pytest.raises(ValueError, match="exponent"):
            phe_adapter.from_phe_ciphertext(number)
