"""Which rows a job trained on, as tags that can be compared with those of another job of the same party.

A cohort is a sorted list of 8-byte numbers, one a row: 63 bits of a keyed hash of the row's id, and the label (0 where
there is none). Without the key nobody can tell whose row it is; with it a row has the same tag in every version of a
table. Two of a million rows share a tag with a probability of 5e-8; one row would be missed then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TAG_BYTES: Final = 8


@dataclass(frozen=True)
class Comparison:
    """How two cohorts lie to each other."""

    #: Rows in both.
    shared: int
    #: Rows in one of them only.
    single: int
    #: Rows in both whose labels differ.
    relabelled: int

    @property
    def differing(self) -> int:
        """Rows about which the difference of the two cohorts' gradients is."""
        return self.single + self.relabelled

    @property
    def is_same(self) -> bool:
        """Whether both consist of the same rows, whatever their labels."""
        return self.single == 0


def tag_rows(key: bytes, ids: Sequence[str], labels: NDArray[np.int8] | None) -> bytes:
    """The cohort of these rows, which are distinct; their order does not matter. `labels` are 0 and 1."""
    digests = b"".join(hashlib.blake2b(row.encode(), key=key, digest_size=TAG_BYTES).digest() for row in ids)
    tags = np.frombuffer(digests, dtype="<u8") >> np.uint64(1) << np.uint64(1)
    if labels is not None:
        tags = tags | labels.astype(np.uint64)
    return np.sort(tags).astype("<u8").tobytes()


def compare_cohorts(first: bytes, second: bytes) -> Comparison:
    """Compare two cohorts that were tagged under the same key."""
    (rows_1, labels_1), (rows_2, labels_2) = _split(first), _split(second)
    shared, places_1, places_2 = np.intersect1d(rows_1, rows_2, assume_unique=True, return_indices=True)
    relabelled = np.count_nonzero(labels_1[places_1] != labels_2[places_2])
    return Comparison(len(shared), len(rows_1) + len(rows_2) - 2 * len(shared), int(relabelled))


def _split(cohort: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    tags = np.frombuffer(cohort, dtype="<u8").astype(np.uint64)
    return tags >> np.uint64(1), tags & np.uint64(1)
