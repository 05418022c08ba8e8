"""Derivation is injective, streams are stable, numbers are uniform where they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels import entropy
from streams.kernels.entropy import (
    PARTY_KEYS,
    Draws,
    Field,
    expand,
    job_seed,
    party_key,
    permutation,
    prf,
    reveal_secret,
    sort_words,
)

KEY = bytes(range(32))

KNOWN_PRF = "a70163e2e48a4f20daf2f4bec03eb0015552e74b1d15612906559922e0de0ae0"
KNOWN_EXPAND = "c9b2f582c0bae0443b2e908889b5eaba"
KNOWN_DRAWS = "c3be19320c870f45cf89f6f1a84eb900"
KNOWN_PERMUTATION = [8, 9, 1, 6, 2, 5, 4, 0, 7, 3]

fields = st.lists(st.one_of(st.binary(max_size=8), st.text(max_size=4), st.integers(-(2**70), 2**70)), max_size=4)


@given(fields, fields)
def test_different_fields_never_give_the_same_key(a: list[Field], b: list[Field]) -> None:
    # Literal comparison with types: 1 and "1" and b"1" are three different fields.
    same = [(type(x), x) for x in a] == [(type(x), x) for x in b]
    assert (prf(KEY, "label", *a) == prf(KEY, "label", *b)) == same


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("label", b"ab", b"c"), ("label", b"a", b"bc")),
        (("label", b"", b""), ("label", b"")),
        (("label", "1"), ("label", 1)),
        (("label", "a"), ("label", b"a")),
        (("label", -1), ("label", 255)),
        (("label", 0), ("label",)),
        (("labela",), ("label", "a")),
        (("label", b"s" + bytes(8)), ("label", "")),
    ],
)
def test_moving_the_border_between_fields_changes_the_key(
    left: tuple[str | bytes | int, ...], right: tuple[str | bytes | int, ...]
) -> None:
    assert prf(KEY, str(left[0]), *left[1:]) != prf(KEY, str(right[0]), *right[1:])


def test_a_bool_or_a_float_is_refused_as_a_field() -> None:
    with pytest.raises(TypeError, match="bool"):
        prf(KEY, "label", True)
    with pytest.raises(TypeError, match="float"):
        prf(KEY, "label", 1.0)  # type: ignore[arg-type]


def test_known_answers_keep_replays_of_old_jobs_equal() -> None:
    """A change of any of these makes every running job unable to replay: it needs a new protocol version."""
    assert prf(KEY, "label", b"x", "y", -7).hex() == KNOWN_PRF
    assert expand(KEY, 16).hex() == KNOWN_EXPAND
    assert Draws(KEY).bytes(16).hex() == KNOWN_DRAWS
    assert permutation(KEY, 10).tolist() == KNOWN_PERMUTATION


def test_a_short_master_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        job_seed(bytes(15), "job")
    assert job_seed(bytes(16), "job-a") != job_seed(bytes(16), "job-b")


def test_what_is_revealed_of_a_job_draws_as_the_party_did_and_says_nothing_of_another_job() -> None:
    revealed = reveal_secret(b"s" * 32, "job-a")
    assert job_seed(revealed, "job-a") == job_seed(b"s" * 32, "job-a")
    assert all(party_key(revealed, each) == party_key(b"s" * 32, each) for each in PARTY_KEYS)
    assert len({revealed.seed, *revealed.keys.values()}) == 1 + len(PARTY_KEYS)
    with pytest.raises(ValueError, match="job-a was revealed, not that of job-b"):
        job_seed(revealed, "job-b")
    with pytest.raises(ValueError, match="no key of a party is for 'storage'"):
        party_key(b"s" * 32, "storage")
    assert revealed.seed.hex() not in repr(revealed) and str(revealed.seed) not in repr(revealed)


def test_a_stream_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"derive it with prf\(\)"):
        Draws(b"short")


@given(st.lists(st.integers(0, 50), max_size=6))
def test_a_stream_does_not_depend_on_how_it_is_cut(cuts: list[int]) -> None:
    draws = Draws(KEY)
    assert b"".join(draws.bytes(cut) for cut in cuts) == Draws(KEY).bytes(sum(cuts))


def test_draws_expand_and_permutation_read_different_streams_of_one_key() -> None:
    assert Draws(KEY).bytes(64) != expand(KEY, 64)


@given(st.integers(1, 2**80))
def test_below_stays_below(n: int) -> None:
    draws = Draws(prf(KEY, "below", n))
    assert all(0 <= draws.below(n) < n for _ in range(20))


def test_below_is_uniform_on_a_bound_that_is_no_power_of_two() -> None:
    draws = Draws(KEY)
    counts = np.bincount([draws.below(5) for _ in range(20_000)], minlength=5)
    # Chi-square with 4 degrees of freedom: 23.5 has probability 1e-4; the key is fixed, so the test is too.
    assert ((counts - 4000) ** 2 / 4000).sum() < 23.5


def test_below_refuses_an_empty_range() -> None:
    with pytest.raises(ValueError, match="positive"):
        Draws(KEY).below(0)


@given(st.integers(0, 300))
def test_a_permutation_hits_every_index_once(n: int) -> None:
    assert sorted(permutation(KEY, n).tolist()) == list(range(n))


@given(n=st.integers(0, 300), piece=st.integers(1, 50))
def test_a_permutation_is_the_order_of_the_words_however_they_are_drawn(n: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "_PIECE_WORDS", piece)
        assert permutation(KEY, n).tolist() == sort_words(KEY, n).tolist()


def test_words_with_equal_first_halves_go_by_their_second_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array([(5, 2), (1, 9), (5, 1), (5, 2), (0, 7)], dtype="<u8").tobytes()

    class Drawn:
        def __init__(self, key: bytes, counter: bytes) -> None:
            self.left = words

        def update(self, zeros: bytes) -> bytes:
            drawn, self.left = self.left[: len(zeros)], self.left[len(zeros) :]
            return drawn

    monkeypatch.setattr(entropy, "_KeyStream", Drawn)
    assert permutation(KEY, 5).tolist() == [4, 1, 2, 0, 3]


def test_permutations_of_different_keys_differ() -> None:
    assert permutation(KEY, 50).tolist() != permutation(prf(KEY, "other"), 50).tolist()
