"""Both paths of Paillier's arithmetic give the same numbers: gmpy2, and the native kernel's back-ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import gmpy2
import isthmus_native
import numpy as np
import pytest
from gmpy2 import mpz

from streams import native
from streams.kernels import multiexp, native_modulus
from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_base import multiply_subsets, prepare_subsets
from streams.kernels.histogram import sum_bins
from streams.kernels.inverses import invert_many
from streams.kernels.paillier import OwnerEncryptor, PublicKey, Refresher, decrypt_many, generate_keys

SEED = bytes(range(32))
BACKENDS = isthmus_native.modulus_backends()
#: Of roots in tests and in use: factors and their products, the smallest, tops that are nearly full or empty.
SIZES = (33, 46, 47, 129, 512, 1024, 1025, 2048, 3072)


def choose(monkeypatch: pytest.MonkeyPatch, path: str, threads: int = 1) -> None:
    monkeypatch.setenv("ISTHMUS_KERNEL", path)
    monkeypatch.setenv("ISTHMUS_KERNEL_THREADS", str(threads))
    native.forget_choice()
    native_modulus._modulus.cache_clear()
    for cached in (OwnerEncryptor.__init__.__globals__["_halves"], Refresher.__init__.__globals__["_bases"]):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    choose(monkeypatch, "auto")


@pytest.fixture(params=[1, 2])
def on_both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """The work gives the same on both paths."""

    def check(work: Callable[[], object]) -> None:
        choose(monkeypatch, "gmpy2")
        expected = work()
        choose(monkeypatch, "native", request.param)
        assert work() == expected

    return check


def numbers(modulus: mpz, count: int, seed: int = 1) -> list[mpz]:
    """The edges, and others."""
    draw = random.Random(seed)
    edges = [mpz(each) for each in (0, 1, modulus - 1, modulus // 2, 2**52 - 1, 2**64)]
    return (edges + [mpz(draw.randrange(int(modulus))) for _ in range(count)])[:count]


def join(values: list[mpz], width: int) -> bytes:
    return b"".join(value.to_bytes(width, "big") for value in values)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_products_and_powers(backend: str, bits: int, count: int) -> None:
    draw = random.Random(bits)
    for root in (
        mpz(draw.getrandbits(bits - 1) | 1 | 1 << (bits - 1)),
        mpz(2) ** bits - 1,
        mpz(2) ** (bits - 1) + 1,
    ):
        modulus = root * root
        inner = isthmus_native.Modulus(root.to_bytes(bits // 8 + 1, "big"), backend)
        width = inner.width
        assert width == (modulus.bit_length() + 7) // 8
        a, b = numbers(modulus, count), numbers(modulus, count, 2)[::-1]
        for threads in (1, 3):
            assert inner.multiply(join(a, width), join(b, width), threads) == join(
                [x * y % modulus for x, y in zip(a, b, strict=True)], width
            )
            for exponent in (0, 1, 31, 32, draw.getrandbits(100), modulus - 1 if bits < 600 else 5):
                power = int(exponent).to_bytes((int(exponent).bit_length() + 7) // 8 or 1, "big")
                expected = [gmpy2.powmod(x, exponent, modulus) for x in a]
                assert inner.power(join(a, width), power, threads) == join(expected, width)
        assert inner.multiply(join(a, width), join(b[:1], width)) == join([x * b[0] % modulus for x in a], width)


def test_what_does_not_fit_is_refused() -> None:
    root = mpz(2) ** 100 + 9
    modulus = root * root
    inner = isthmus_native.Modulus(root.to_bytes(13, "big"))
    good = join([mpz(3)], 26)
    for bad, text in ((b"x" * 25, "26 bytes each"), (modulus.to_bytes(26, "big"), "number 0 is not below")):
        with pytest.raises(ValueError, match=text):
            inner.multiply(bad, good)
    with pytest.raises(ValueError, match="2 numbers with 3"):
        inner.multiply(good * 2, good * 3)
    for bad in (b"", b"\0", b"\x05", (mpz(2) ** 200).to_bytes(26, "big"), b"\xff" * 4, b"\xff" * 1000):
        with pytest.raises(ValueError, match="a root is odd"):
            isthmus_native.Modulus(bad)
    with pytest.raises(ValueError, match="no back-end"):
        isthmus_native.Modulus(root.to_bytes(13, "big"), "abacus")
    with pytest.raises(ZeroDivisionError):
        native_modulus.NativeModulus(isthmus_native, mpz(3) ** 30).invert([mpz(2), mpz(3)])
    table = isthmus_native.FixedTable.of_base(inner, good, 4, 3)
    other = isthmus_native.Modulus((root + 2).to_bytes(13, "big"))
    with pytest.raises(ValueError, match="another modulus's"):
        other.powers([table], np.zeros(3, dtype="<i2").tobytes(), lambda ends: ends)
    for digits in ([9, 0, 0], [0, -9, 0], [1, 2]):
        with pytest.raises(ValueError, match="digits do not fit"):
            inner.powers([table], np.array(digits, dtype="<i2").tobytes(), lambda ends: ends)
    with pytest.raises(ValueError, match="another length"):
        inner.powers([table], np.zeros(3, dtype="<i2").tobytes(), lambda ends: b"")
    with pytest.raises(ValueError, match="bins do not fit"):
        inner.histogram(good * 2, np.array([0, 5], dtype="<i4").tobytes(), 1, 5)


KEYS = {bits: generate_keys(prf(SEED, "native", bits), bits) for bits in (256, 512)}


def test_only_squares_have_a_native_path(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, "native")
    square = mpz(2**80 + 13) ** 2
    assert native_modulus.native_modulus(square, native_modulus.LEAST) is not None
    assert native_modulus.native_modulus(square, native_modulus.LEAST - 1) is None
    for other in (square + 2, mpz(2**80) ** 2, mpz(2**31 + 1) ** 2):
        assert native_modulus.native_modulus(other, 100) is None


@pytest.mark.parametrize("bits", KEYS)
@pytest.mark.parametrize("count", [1, 4, 9, 33])
def test_encryption_refresh_and_decryption(on_both: Callable[..., None], bits: int, count: int) -> None:
    private = KEYS[bits]
    half = private.public.n // 2
    plaintexts = [0, 1, -1, half, -half, *range(count)][:count]

    def work() -> object:
        draws = Draws(prf(SEED, "draws"))
        fresh = OwnerEncryptor(private).encrypt_many(plaintexts, draws)
        again = Refresher(private.public, SEED).refresh_many(fresh, draws)
        assert decrypt_many(private, again) == plaintexts
        return [each.value for each in (*fresh, *again)]

    on_both(work)


def ciphertexts_of(public: PublicKey, count: int) -> list[Ciphertext]:
    draw = random.Random(3)
    units = (mpz(draw.randrange(2, public.n**2)) for _ in range(3 * count))
    return [Ciphertext(each) for each in units if gmpy2.gcd(each, public.n) == 1][:count]


@pytest.mark.parametrize("largest", [1, 7, 8, 1 << 16, (1 << 61) - 1])
@pytest.mark.parametrize(("rows", "slots", "features"), [(1, 1, 1), (4, 2, 3), (33, 3, 9)])
def test_slotted_products(on_both: Callable[..., None], rows: int, slots: int, features: int, largest: int) -> None:
    public = KEYS[256].public
    draw = np.random.default_rng(rows)
    for low in (0, -largest):
        weights = draw.integers(low, largest, (rows, slots, features), endpoint=True)
        weights.flat[0] = largest
        given = ciphertexts_of(public, rows)
        on_both(
            lambda w=weights, c=given: multiexp.slotted_products(c, w, [70 * k for k in range(slots)][::-1], public)
        )
    on_both(lambda c=given: multiexp.slotted_products(c, np.zeros((rows, slots, features), int), [5] * slots, public))


@pytest.mark.parametrize(("rows", "run"), [(1, 1), (7, 3), (24, 3), (100, 7)])
def test_combined_powers(on_both: Callable[..., None], rows: int, run: int) -> None:
    public = KEYS[256].public
    draw = np.random.default_rng(rows)
    for largest in (1, 8, 1 << 15):
        coefficients = draw.integers(-largest, largest, (rows, 4), endpoint=True)
        given = ciphertexts_of(public, rows)
        on_both(lambda k=coefficients, c=given: multiexp.combined_powers(c, k, [180, 120, 60, 0], run, public))


@pytest.mark.parametrize("largest", [1, 8, (1 << 53) - 111, multiexp.MAX_WEIGHT, 1 << 300])
def test_single_powers(on_both: Callable[..., None], largest: int) -> None:
    public = KEYS[256].public
    draw = random.Random(largest)
    exponents = [largest, -largest, 0, 1, *(draw.randrange(-largest, largest + 1) for _ in range(9))]
    given = ciphertexts_of(public, len(exponents))
    on_both(lambda: multiexp.powers(given, exponents, public))
    expected = [gmpy2.powmod(c.value, e, public.modulus_squared) for c, e in zip(given, exponents, strict=True)]
    assert [each.value for each in multiexp.powers(given, exponents, public)] == expected


@pytest.mark.parametrize(("rows", "features", "count"), [(1, 1, 1), (50, 3, 4), (200, 2, 50), (200, 7, 4), (9, 2, 1)])
def test_histograms(on_both: Callable[..., None], rows: int, features: int, count: int) -> None:
    public = KEYS[256].public
    bins = np.random.default_rng(rows).integers(0, count, (rows, features))
    given = ciphertexts_of(public, rows)
    on_both(lambda: sum_bins(given, bins, count, public))


def test_inverses_and_subsets(on_both: Callable[..., None]) -> None:
    public = KEYS[256].public
    n2 = public.modulus_squared
    units = [each.value for each in ciphertexts_of(public, 21)]
    on_both(lambda: invert_many(units, n2))
    assert [a * b % n2 for a, b in zip(units, invert_many(units, n2), strict=True)] == [1] * 21
    digits = np.random.default_rng(1).integers(0, 4, (19, 6)).astype(np.int16)
    on_both(lambda: multiply_subsets(prepare_subsets(units[:12], public.modulus, 2), digits))
