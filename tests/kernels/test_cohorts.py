"""Cohorts as tags: the same people are the same in every table, and how two cohorts differ is counted exactly."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streams.kernels.cohorts import TAG_BYTES, compare_cohorts, tag_rows

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PEOPLE = [f"person-{n}" for n in range(500)]


def labelled(people: list[str], ones: set[str]) -> bytes:
    return tag_rows(KEY, people, np.array([name in ones for name in people], dtype=np.int8))


def test_the_order_of_rows_does_not_matter_and_the_key_does() -> None:
    shuffled = random.Random(1).sample(PEOPLE, len(PEOPLE))
    assert tag_rows(KEY, shuffled, None) == tag_rows(KEY, PEOPLE, None)
    assert tag_rows(OTHER_KEY, PEOPLE, None) != tag_rows(KEY, PEOPLE, None)
    assert len(tag_rows(KEY, PEOPLE, None)) == TAG_BYTES * len(PEOPLE)
    assert not compare_cohorts(tag_rows(OTHER_KEY, PEOPLE, None), tag_rows(KEY, PEOPLE, None)).shared


@pytest.mark.parametrize("seed", range(20))
def test_differences_are_what_sets_say(seed: int) -> None:
    draw = random.Random(seed)
    first, second = (draw.sample(PEOPLE, draw.randint(0, 500)) for _ in range(2))
    ones, others = (set(draw.sample(PEOPLE, 200)) for _ in range(2))
    found = compare_cohorts(labelled(first, ones), labelled(second, others))
    both = set(first) & set(second)
    changed = {name for name in both if (name in ones) != (name in others)}
    assert (found.shared, found.single, found.relabelled) == (len(both), len(set(first) ^ set(second)), len(changed))
    assert found.differing == len(set(first) ^ set(second)) + len(changed)
    assert found.is_same == (set(first) == set(second))


def test_a_label_does_not_make_another_person_of_anybody() -> None:
    ones = set(PEOPLE[:250])
    unlabelled, with_labels = tag_rows(KEY, PEOPLE, None), labelled(PEOPLE, ones)
    found = compare_cohorts(unlabelled, with_labels)
    assert found.is_same and found.relabelled == len(ones)


def test_an_empty_cohort_shares_nothing() -> None:
    found = compare_cohorts(b"", tag_rows(KEY, PEOPLE, None))
    assert (found.shared, found.differing) == (0, len(PEOPLE))
