"""Identifiers in two arrays are the sequence of texts that went in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.identifiers import Identifiers

TEXTS = st.lists(st.text(max_size=4), max_size=30)


@given(texts=TEXTS, start=st.integers(-40, 40), stop=st.integers(-40, 40), step=st.sampled_from([-3, -1, 1, 2]))
def test_it_is_the_sequence_of_its_texts(texts: list[str], start: int, stop: int, step: int) -> None:
    identifiers = Identifiers.of(iter(texts))
    assert list(identifiers) == texts
    assert len(identifiers) == len(texts)
    assert identifiers[start:stop:step] == texts[start:stop:step]
    assert [identifiers[place] for place in range(-len(texts), len(texts))] == texts + texts
    for place in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            identifiers[place]


@given(texts=TEXTS.filter(bool), data=st.data())
@pytest.mark.parametrize("kind", [np.uint32, np.int64])
def test_picked_texts_come_in_the_order_of_the_picks(texts: list[str], data: st.DataObject, kind: type) -> None:
    places = data.draw(st.lists(st.integers(0, len(texts) - 1)))
    assert Identifiers.of(texts).pick(np.asarray(places, dtype=kind)) == [texts[place] for place in places]


def test_offsets_are_as_wide_as_the_content_needs() -> None:
    for length in (255, 256, 65_535, 65_536):
        texts = ["x" * length, "é", "end"]
        assert list(Identifiers.of(texts)) == texts


def test_a_person_takes_the_bytes_of_the_name_and_four() -> None:
    identifiers = Identifiers.of(f"customer-{number:09}" for number in range(100_000))
    assert len(identifiers.content) + identifiers.ends.nbytes == 100_000 * (18 + 4)
