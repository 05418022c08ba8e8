"""Keys, the homomorphic laws, and what is refused."""

from __future__ import annotations

from typing import cast

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kernels.entropy import Draws, prf
from streams.kernels.owner import residue_generator
from streams.kernels.paillier import (
    Ciphertext,
    FreshCiphertext,
    OwnerEncryptor,
    PrivateKey,
    PublicKey,
    Refresher,
    add,
    add_plain,
    decode_ciphertexts,
    decrypt,
    decrypt_many,
    encode_ciphertexts,
    generate_keys,
    product,
    sanity_check_modulus,
    scale,
)

SEED = bytes(range(32))
PRIVATE = generate_keys(SEED, 256)
PUBLIC = PRIVATE.public
HALF = PUBLIC.n // 2
ENCRYPTOR = OwnerEncryptor(PRIVATE)

plaintexts = st.one_of(st.integers(-HALF, HALF), st.integers(-5, 5), st.sampled_from([-HALF, HALF]))


def centred(value: int) -> int:
    return (value + HALF) % PUBLIC.n - HALF


def encrypt(value: int, label: int = 0) -> FreshCiphertext:
    return ENCRYPTOR.encrypt(value, Draws(prf(SEED, "test", value, label)))


@given(plaintexts, plaintexts, st.integers(-(2**70), 2**70))
def test_arithmetic_under_encryption_is_arithmetic_modulo_n(a: int, b: int, k: int) -> None:
    x, y = encrypt(a), encrypt(b, 1)
    assert decrypt(PRIVATE, x) == a
    assert decrypt(PRIVATE, add(PUBLIC, x, y)) == centred(a + b)
    assert decrypt(PRIVATE, add_plain(PUBLIC, x, b)) == centred(a + b)
    assert decrypt(PRIVATE, scale(PUBLIC, x, k)) == centred(a * k)
    assert decrypt(PRIVATE, product(PUBLIC, [x, y, x])) == centred(2 * a + b)


def test_the_empty_product_is_zero() -> None:
    assert decrypt(PRIVATE, product(PUBLIC, [])) == 0


@pytest.mark.parametrize("bits", [64, 128, 130, 256, 512, 1024])
def test_keys_have_exact_size_and_safe_primes(bits: int) -> None:
    private = generate_keys(prf(SEED, "size"), bits)
    assert private.public.bits == bits
    assert private.p != private.q
    for prime in (private.p, private.q):
        assert gmpy2.is_prime(prime) and gmpy2.is_prime((prime - 1) // 2)
        assert prime % 4 == 3
    assert gmpy2.gcd(private.public.n, (private.p - 1) * (private.q - 1)) == 1


def test_equal_seeds_give_equal_keys_and_others_do_not() -> None:
    generate_keys.cache_clear()
    again = generate_keys(SEED, 256)
    assert again == PRIVATE
    assert generate_keys(prf(SEED, "other"), 256) != PRIVATE


@pytest.mark.parametrize("bits", [62, 129, 0])
def test_an_impossible_key_size_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="even size of at least 64"):
        generate_keys(SEED, bits)


def test_a_private_key_does_not_print_its_primes() -> None:
    assert repr(PRIVATE) == "PrivateKey(<256 bits>)"


def test_equal_draws_give_equal_ciphertexts_and_others_do_not() -> None:
    draws = [Draws(prf(SEED, "a")), Draws(prf(SEED, "a")), Draws(prf(SEED, "b"))]
    first, second, third = (ENCRYPTOR.encrypt_many([1, 1], d) for d in draws)
    assert first == second
    assert len({c.value for c in first + third}) == 4


def test_a_plaintext_that_does_not_fit_is_refused_with_its_index() -> None:
    with pytest.raises(ValueError, match="plaintext 1 of 2 does not fit in 256 bits"):
        ENCRYPTOR.encrypt_many([0, HALF + 1], Draws(SEED))


def test_encrypting_nothing_is_nothing() -> None:
    assert ENCRYPTOR.encrypt_many([], Draws(SEED)) == []
    assert decrypt_many(PRIVATE, []) == []


@given(st.lists(plaintexts, max_size=5))
@settings(max_examples=30)
def test_ciphertexts_survive_the_wire(values: list[int]) -> None:
    sent = ENCRYPTOR.encrypt_many(values, Draws(SEED))
    data = encode_ciphertexts(PUBLIC, sent)
    assert len(data) == 64 * len(values)
    assert decrypt_many(PRIVATE, decode_ciphertexts(PUBLIC, data)) == values


def test_a_computed_ciphertext_cannot_be_sent() -> None:
    computed = add(PUBLIC, encrypt(1), encrypt(2))
    # mypy refuses this line already; the run-time check is for callers without types.
    with pytest.raises(TypeError, match="ciphertext 1 of 2 is a result of arithmetic; refresh it"):
        encode_ciphertexts(PUBLIC, [encrypt(1), cast("FreshCiphertext", computed)])
    fresh = Refresher(PUBLIC, SEED).refresh(computed, Draws(SEED))
    assert len(encode_ciphertexts(PUBLIC, [fresh])) == PUBLIC.ciphertext_bytes


def test_a_received_ciphertext_cannot_be_sent_on() -> None:
    received = decode_ciphertexts(PUBLIC, encode_ciphertexts(PUBLIC, [encrypt(1)]))
    with pytest.raises(TypeError, match="refresh"):
        encode_ciphertexts(PUBLIC, cast("list[FreshCiphertext]", received))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0, "is not in"),
        (PUBLIC.n**2, "is not in"),
        (PUBLIC.n, "factor in common"),
        (PRIVATE.p * 5, "factor in common"),
    ],
)
def test_what_is_no_ciphertext_is_refused(value: int, reason: str) -> None:
    good = encode_ciphertexts(PUBLIC, [encrypt(1)])
    with pytest.raises(ValueError, match=reason):
        decode_ciphertexts(PUBLIC, good + value.to_bytes(64, "big"))


def test_cut_ciphertexts_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes each, but 63"):
        decode_ciphertexts(PUBLIC, bytes(63))


def test_owner_residues_are_uniform_on_the_whole_group_of_n_th_residues() -> None:
    """n = 23 * 59 has 22 * 58 residues; each comes up equally often, as for the textbook r^n."""
    private = PrivateKey(23, 59)
    n = private.public.n
    group = {pow(r, n, n * n) for r in range(1, n) if gmpy2.gcd(r, n) == 1}
    drawn = OwnerEncryptor(private).residues(20 * len(group), Draws(SEED))
    counts = np.array([drawn.count(mpz(element)) for element in group])
    assert len(group) == 22 * 58
    assert counts.sum() == len(drawn)
    # Chi-square with 1275 degrees of freedom: mean 1275, standard deviation 50.5; the draws are fixed.
    assert abs(((counts - 20) ** 2 / 20).sum() - 1275) < 4 * 50.5


@pytest.mark.parametrize("prime", [7, 11, 23, 59, PRIVATE.p])
def test_the_residue_generator_has_order_p_minus_1(prime: int) -> None:
    generator = residue_generator(mpz(prime))
    square = prime * prime
    assert gmpy2.powmod(generator, prime - 1, square) == 1
    for factor in (2, (prime - 1) // 2):
        assert gmpy2.powmod(generator, (prime - 1) // factor, square) != 1


def test_a_key_whose_generator_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ValueError, match="not a safe prime"):
        OwnerEncryptor(PrivateKey(59, 61))


def test_a_key_of_a_real_job_works() -> None:
    private = generate_keys(SEED, 2048)
    public = private.public
    values = [-(public.n // 2), -1, 0, 1, public.n // 2, 2**1900]
    sent = OwnerEncryptor(private).encrypt_many(values, Draws(SEED))
    refreshed = Refresher(public, prf(SEED, "refresh")).refresh_many(sent, Draws(SEED))
    assert decrypt_many(private, refreshed) == decrypt_many(private, sent) == values


def test_a_good_modulus_passes_and_is_read_back() -> None:
    assert PublicKey.decode(PUBLIC.encode(), 256) == PUBLIC


_P = int(gmpy2.next_prime(2**127 + 2**126))


@pytest.mark.parametrize(
    ("n", "reason"),
    [
        (PUBLIC.n >> 1, "has 255 bits, but the job says 256"),
        (PUBLIC.n & ~1, "divisible by 2"),
        (65521 * int(gmpy2.next_prime(2**240 - 2**238)), "divisible by 65521"),
        (_P * _P, "is a square"),
        (int(gmpy2.next_prime(2**255)), "is prime"),
    ],
)
def test_a_malformed_modulus_is_refused_with_the_reason(n: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sanity_check_modulus(n, 256)


def test_ciphertexts_with_different_randomness_have_the_same_plaintext_only_after_decryption() -> None:
    a, b = encrypt(7), encrypt(7, 1)
    assert a != b
    assert decrypt(PRIVATE, a) == decrypt(PRIVATE, b)
    assert isinstance(scale(PUBLIC, a, 1), Ciphertext) and not isinstance(scale(PUBLIC, a, 1), FreshCiphertext)
