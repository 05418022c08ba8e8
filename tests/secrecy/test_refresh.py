"""What the owner of a Paillier key learns about exponents from the randomness of what comes back.

Each attack must succeed against the uncorrected form, which lives in this file only, and fail against ours.
"""

from __future__ import annotations

from math import log2

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz

from streams.kernels.entropy import Draws, prf
from streams.kernels.multiexp import weighted_products
from streams.kernels.paillier import (
    Ciphertext,
    OwnerEncryptor,
    PublicKey,
    Refresher,
    add_plain,
    decrypt,
    generate_keys,
    textbook_residues,
)
from streams.kernels.primes import small_primes
from streams.kernels.refresh import SECOND_EXTRA_BITS, SUBSET_BASES

SEED = bytes(range(32))
OWNER = generate_keys(prf(SEED, "owner"), 256)
PUBLIC = OWNER.public
N, N2 = PUBLIC.modulus, PUBLIC.modulus_squared
ROUNDS = 200


def refresh_with_the_owners_base(ciphertext: Ciphertext, draws: Draws) -> Ciphertext:
    """Uncorrected (Damgard, Jurik, Nielsen 2010): powers of h_s = (-x^2)^n, which the key owner published."""
    h_s = gmpy2.powmod(N - mpz(12345) ** 2 % N, N, N2)
    return Ciphertext(ciphertext.value * gmpy2.powmod(h_s, draws.bits(PUBLIC.bits + 64), N2) % N2)


def parity_hits(*, corrected: bool) -> int:
    """How often the owner predicts a parity of the peer's secret weights from the Jacobi symbol of the answer."""
    inputs = OwnerEncryptor(OWNER).encrypt_many(range(16), Draws(prf(SEED, "inputs")))
    # c = r^n modulo n and n is odd, so the symbol of c is that of r.
    odd = np.array([gmpy2.jacobi(ciphertext.value % N, N) == -1 for ciphertext in inputs])
    assert 0 < odd.sum() < len(inputs)
    weights = np.random.default_rng(7).integers(-(2**16), 2**16, (len(inputs), ROUNDS))
    draws = Draws(prf(SEED, "refresh draws"))
    refresher = Refresher(PUBLIC, prf(SEED, "peer"))
    hits = 0
    for answer, column in zip(weighted_products(inputs, weights, PUBLIC), weights.T, strict=True):
        padded = add_plain(PUBLIC, answer, draws.below(PUBLIC.n))
        sent = refresher.refresh(padded, draws) if corrected else refresh_with_the_owners_base(padded, draws)
        guess = gmpy2.jacobi(sent.value % N, N) == -1
        hits += guess == bool(column[odd].sum() % 2)
    return hits


def test_a_refresh_with_the_owners_base_gives_the_owner_a_parity_of_the_weights() -> None:
    assert parity_hits(corrected=False) == ROUNDS


def test_our_refresh_leaves_the_owner_with_chance() -> None:
    # Binomial(200, 1/2): standard deviation 7.1; the draws are fixed.
    assert abs(parity_hits(corrected=True) - ROUNDS // 2) < 4 * 7.1


def find_exponent(sent: Ciphertext, original: Ciphertext, message: int, candidates: range) -> list[int]:
    """The owner's test: it decrypts, strips the plaintext and compares the randomness with every guess.

    The pad hides the plaintext perfectly, and does not help at all.
    """
    randomness = add_plain(PUBLIC, sent, -decrypt(OWNER, sent)).value
    base = add_plain(PUBLIC, original, -message).value
    return [guess for guess in candidates if gmpy2.powmod(base, guess, N2) == randomness]


@pytest.mark.parametrize("secret", [-999, 0, 1, 421])
def test_the_owner_reads_an_exponent_from_an_answer_that_was_not_refreshed(secret: int) -> None:
    original = OwnerEncryptor(OWNER).encrypt(5, Draws(prf(SEED, "one")))
    (answer,) = weighted_products([original], np.array([[secret]]), PUBLIC)
    padded = add_plain(PUBLIC, answer, Draws(prf(SEED, "pad", secret)).below(PUBLIC.n))
    assert find_exponent(padded, original, 5, range(-1000, 1000)) == [secret]
    refreshed = Refresher(PUBLIC, prf(SEED, "peer")).refresh(padded, Draws(prf(SEED, "r", secret)))
    assert find_exponent(refreshed, original, 5, range(-1000, 1000)) == []


def read_exponent(answer: Ciphertext, original: Ciphertext, message: int, bound: int) -> int | None:
    """Shanks' steps of the key owner, modulo p^2 alone: the exponent in [0, bound) that explains the randomness."""
    p2 = OWNER.p**2
    target = add_plain(PUBLIC, answer, -decrypt(OWNER, answer)).value % p2
    base = add_plain(PUBLIC, original, -message).value % p2
    width = gmpy2.isqrt(bound) + 1
    baby: dict[mpz, int] = {}
    power = mpz(1)
    for small in range(width):
        baby.setdefault(power, small)
        power = power * base % p2
    giant, place = gmpy2.invert(power, p2), target
    for large in range(width):
        if place in baby:
            return int(large * width + baby[place])
        place = place * giant % p2
    return None


@pytest.mark.parametrize("sign", [1, -1])
def test_a_base_of_the_owners_that_is_one_modulo_a_prime_refreshes_nothing_there(sign: int) -> None:
    """A malicious owner publishes h_s = +-1 modulo p: its powers are +-1 modulo p^2, so half of each answer's
    randomness is as it was, and a weight is read in milliseconds, pad or no pad.

    Source: the review's correction on re-randomisation. Ours asks for no base: the sender draws its own.
    """
    # By the Chinese remainder theorem +-1 modulo p and a square's negative modulo q: looks like any other base.
    h = int(gmpy2.invert(OWNER.q, OWNER.p)) * OWNER.q * sign - OWNER.p * int(gmpy2.invert(OWNER.p, OWNER.q)) * 12345**2
    h_s = gmpy2.powmod(h % PUBLIC.n, N, N2)
    assert h_s % OWNER.p in (1, OWNER.p - 1) and h_s % OWNER.q not in (1, OWNER.q - 1)
    original = OwnerEncryptor(OWNER).encrypt(5, Draws(prf(SEED, "one")))
    refresher = Refresher(PUBLIC, prf(SEED, "peer"))
    for secret in (0, 77, 65_535):
        (answer,) = weighted_products([original], np.array([[secret]]), PUBLIC)
        draws = Draws(prf(SEED, "degenerate", sign, secret))
        padded = add_plain(PUBLIC, answer, draws.below(PUBLIC.n))
        exponent = 2 * draws.bits(PUBLIC.bits + 64)  # Even: with -1 the owner would try both signs.
        weak = Ciphertext(padded.value * gmpy2.powmod(h_s, exponent, N2) % N2)
        assert read_exponent(weak, original, 5, 2**16) == secret
        assert read_exponent(refresher.refresh(padded, draws), original, 5, 2**16) is None


#: Primes p, q with much in common in p - 1 and q - 1, as a peer could choose them; and safe ones.
MODULI = ((31, 61), (37, 73), (23, 59), (41, 241))


@pytest.mark.parametrize(("p", "q"), MODULI)
def test_refresh_factors_are_uniform_on_all_residues_whatever_the_primes_are(p: int, q: int) -> None:
    public = PublicKey(p * q)
    n = public.n
    group = {pow(r, n, n * n) for r in range(1, n) if gmpy2.gcd(r, n) == 1}
    index = {mpz(element): i for i, element in enumerate(sorted(group))}
    drawn = Refresher(public, SEED).residues(20 * len(group), Draws(SEED))
    counts = np.bincount([index[element] for element in drawn], minlength=len(group))
    freedom = len(group) - 1
    # Chi-square: mean `freedom`, standard deviation sqrt(2 freedom); the draws are fixed.
    assert abs(((counts - 20) ** 2 / 20).sum() - freedom) < 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(("p", "q"), MODULI)
def test_a_single_base_misses_most_residues_of_such_a_modulus(p: int, q: int) -> None:
    """Why there are two bases and a subset product: the orders of p - 1 and q - 1 share factors, at least 2."""
    public = PublicKey(p * q)
    (base,) = textbook_residues(public, 1, Draws(SEED))
    group_order = (p - 1) * (q - 1)
    reached = {gmpy2.powmod(base, a, public.modulus_squared) for a in range(group_order)}
    assert len(reached) <= group_order // 2


def test_textbook_residues_are_the_definition() -> None:
    residues = textbook_residues(PUBLIC, 3, Draws(SEED))
    phi = (OWNER.p - 1) * (OWNER.q - 1)
    # n-th residues modulo n^2 are exactly the elements whose order divides phi(n).
    assert all(gmpy2.powmod(residue, phi, N2) == 1 for residue in residues)
    ours = Refresher(PUBLIC, SEED).residues(3, Draws(SEED))
    assert all(gmpy2.powmod(residue, phi, N2) == 1 for residue in ours)


def test_two_parties_or_two_keys_never_share_bases() -> None:
    one, two = (Refresher(PUBLIC, prf(SEED, "bases", i)).residues(4, Draws(SEED)) for i in range(2))
    assert not set(one) & set(two)


@pytest.mark.parametrize(("bits", "distance"), [(2048, -62), (3072, -60), (4096, -57)])
def test_the_distance_bound_of_the_docstring_follows_from_its_formulas(bits: int, distance: int) -> None:
    """Points 2 to 5 of `streams.kernels.refresh`: worst cases are products of the first primes."""
    shared = cokernel = exponent = order = 0.0
    for prime in small_primes(1 << 14).tolist():
        if shared + log2(prime) <= bits / 2:
            shared += log2(prime)
            cokernel += log2((1 - 1 / prime) * (1 - prime**-2) / ((1 - prime**-0.5) * (1 - prime**-1.5)))
        if exponent + log2(prime) <= bits:
            exponent += log2(prime)
            order += log2(1 + prime**-0.5)
    subset_product = log2(1.6) + cokernel - SUBSET_BASES / 2 - 1
    second_exponent = order - SECOND_EXTRA_BITS / 2
    total = 2**subset_product + 2**second_exponent + 2**-65
    assert log2(total) < distance
