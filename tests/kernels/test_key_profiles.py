"""What each way of drawing randomisers is: the exponents it takes, the residues that come out, and plain decryption."""

from __future__ import annotations

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz

from schemas.profiles import KeyProfile
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_base import choose_window, draw_digits
from streams.kernels.key_profiles import SHORT_EXPONENT_BITS, djn_base, exponent_bits
from streams.kernels.owner import OwnerEncryptor, residue_generator
from streams.kernels.paillier import decrypt_many, generate_keys

SEED = bytes(range(32))
#: So long that 448 bits are a shorter exponent than half of it.
PRIVATE = generate_keys(SEED, 1024)
PUBLIC = PRIVATE.public
P, Q, N, N2 = mpz(PRIVATE.p), mpz(PRIVATE.q), PUBLIC.modulus, PUBLIC.modulus_squared
SHORT = (KeyProfile.DJN, KeyProfile.DJN448)


def exponents(profile: KeyProfile, count: int, draws: Draws) -> list[int]:
    """What the next digits of the stream mean as signed integers."""
    bits = exponent_bits(profile, PUBLIC.bits)
    window = choose_window(PUBLIC.bits, 2 * bits)
    digits = draw_digits(draws, count, -(-bits // window), window, signed=True)
    return [sum(int(digit) << (window * place) for place, digit in enumerate(row)) for row in digits]


def decrypt_by_definition(ciphertext: mpz) -> int:
    """L(c^lambda) / lambda modulo n, with L(x) = (x - 1) / n: no remainders modulo p and q."""
    order = gmpy2.lcm(P - 1, Q - 1)
    plaintext = (gmpy2.powmod(ciphertext, order, N2) - 1) // N * gmpy2.invert(order, N) % N
    return int(plaintext - N if plaintext > N // 2 else plaintext)


@pytest.mark.parametrize("profile", KeyProfile)
def test_what_is_encrypted_is_decrypted_by_the_definition_as_well(profile: KeyProfile) -> None:
    half = int(N // 2)
    plaintexts = [0, 1, -1, 1 << 53, -(1 << 900), half, -half]
    ciphertexts = OwnerEncryptor(PRIVATE, profile).encrypt_many(plaintexts, Draws(SEED))
    assert decrypt_many(PRIVATE, ciphertexts) == plaintexts
    assert [decrypt_by_definition(c.value) for c in ciphertexts] == plaintexts
    assert len({c.value for c in ciphertexts}) == len(plaintexts)


@pytest.mark.parametrize("profile", SHORT)
def test_short_randomisers_are_powers_of_the_base_by_the_drawn_exponents(profile: KeyProfile) -> None:
    drawn = exponents(profile, 20, Draws(SEED))
    base = djn_base(PUBLIC)
    expected = [gmpy2.powmod(base, exponent, N2) for exponent in drawn]
    assert OwnerEncryptor(PRIVATE, profile).residues(20, Draws(SEED)) == expected


def test_exact_randomisers_are_powers_of_generators_by_independent_exponents() -> None:
    draws = Draws(SEED)
    modulo_p, modulo_q = (exponents(KeyProfile.EXACT, 20, draws) for _ in range(2))
    residues = OwnerEncryptor(PRIVATE).residues(20, Draws(SEED))
    for prime, drawn in ((P, modulo_p), (Q, modulo_q)):
        square = prime * prime
        expected = [gmpy2.powmod(residue_generator(prime), exponent, square) for exponent in drawn]
        assert [residue % square for residue in residues] == expected


@pytest.mark.parametrize(
    ("profile", "bits"), [(KeyProfile.EXACT, 576), (KeyProfile.DJN, 512), (KeyProfile.DJN448, 448)]
)
def test_exponents_are_uniform_in_an_interval_of_the_documented_length(profile: KeyProfile, bits: int) -> None:
    assert exponent_bits(profile, PUBLIC.bits) == bits
    drawn = exponents(profile, 4000, Draws(prf(SEED, "lengths", profile)))
    window = choose_window(PUBLIC.bits, 2 * bits)
    length = -(-bits // window) * window
    assert bits <= length < bits + window
    lowest = min(drawn)
    # The interval has 2^length integers, and 4000 draws come close to both of its ends.
    assert 0.995 < (max(drawn) - lowest) / (1 << length) <= 1
    eighths = np.bincount([((exponent - lowest) << 3) >> length for exponent in drawn], minlength=8)[:8]
    assert chi_squared(eighths) < 24.3  # 7 degrees of freedom: 1 in 1000


def chi_squared(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("profile", KeyProfile)
def test_randomisers_are_residues_and_their_characters_are_what_the_profile_says(profile: KeyProfile) -> None:
    """Quadratic characters modulo p and q are all that small orders show: p - 1 is twice a prime."""
    residues = OwnerEncryptor(PRIVATE, profile).residues(2000, Draws(prf(SEED, "characters", profile)))
    order = gmpy2.lcm(P - 1, Q - 1)
    assert all(gmpy2.powmod(residue, order, N2) == 1 for residue in residues[:20])
    signs = [(gmpy2.legendre(residue % P, P), gmpy2.legendre(residue % Q, Q)) for residue in residues]
    counts = np.array([signs.count(pair) for pair in ((1, 1), (-1, -1), (1, -1), (-1, 1))])
    if profile is KeyProfile.EXACT:
        assert chi_squared(counts) < 16.3  # 3 degrees of freedom: 1 in 1000
    else:
        assert not counts[2:].any()  # Jacobi symbol 1: half of all residues
        assert chi_squared(counts[:2]) < 10.9


def test_the_base_is_a_residue_of_a_negative_square_that_anybody_finds_again() -> None:
    base = djn_base(PUBLIC)
    assert djn_base(PUBLIC) == base
    assert base != djn_base(generate_keys(prf(SEED, "other"), 1024).public)
    assert gmpy2.powmod(base, gmpy2.lcm(P - 1, Q - 1), N2) == 1
    assert gmpy2.legendre(base % P, P) == gmpy2.legendre(base % Q, Q) == -1
    # Its order is that of half of all residues: 2 p' q'.
    half_p, half_q = (P - 1) // 2, (Q - 1) // 2
    assert all(gmpy2.powmod(base, 2 * half_p * half_q // prime, N2) != 1 for prime in (2, half_p, half_q))


def test_short_exponents_stay_448_bits_and_never_exceed_half_the_modulus() -> None:
    assert [exponent_bits(KeyProfile.DJN448, bits) for bits in (512, 2048, 3072)] == [256, 448, 448]
    assert [exponent_bits(KeyProfile.DJN, bits) for bits in (512, 2048, 3072)] == [256, 1024, 1536]
    assert SHORT_EXPONENT_BITS == 448


def test_profiles_are_ordered_by_what_they_assume() -> None:
    lengths = [exponent_bits(profile, 3072) for profile in KeyProfile]
    assert lengths == sorted(lengths, reverse=True)


def test_a_profile_is_chosen_by_name_and_exact_is_the_default() -> None:
    encryptors = {profile: OwnerEncryptor(PRIVATE, profile) for profile in KeyProfile}
    values = {profile: encryptor.encrypt(7, Draws(SEED)).value for profile, encryptor in encryptors.items()}
    assert len(set(values.values())) == len(KeyProfile)
    assert OwnerEncryptor(PRIVATE).encrypt(7, Draws(SEED)).value == values[KeyProfile.EXACT]
