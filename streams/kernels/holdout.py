"""Which joint rows train and which are held out: the guest shuffled the joint order, so the tail is a random sample.

The guest draws the order from the rows' ids, under a key of its own: a row has its place in every job. So two jobs of
the same rows train on the same rows, and a few rows more or less move few others across the border. Samples that were
drawn anew for each job would give every job a cohort of its own, and the differences between them away.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw(key: bytes, ids: Sequence[str]) -> bytes:
    """16 bytes for each id, which say where it stands: they depend on the key and the id alone. Joined."""
    return b"".join(hashlib.blake2b(each.encode(), key=key, digest_size=16).digest() for each in ids)


def draw_order(draws: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The order of ids by their draws, shape (ids, 16): entry k is the index of the id at place k."""
    words = np.ascontiguousarray(draws).view(">u8")
    return np.lexsort((words[:, 1], words[:, 0])).astype(np.uint32)


def count_training_rows(joint_rows: int, holdout_fraction: float) -> int:
    """The first so many joint rows train; the last floor(joint_rows * holdout_fraction) are held out."""
    return joint_rows - math.floor(joint_rows * holdout_fraction)


def split_rows(rows: bytes, holdout_fraction: float) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """(training rows, hold-out rows) as indices of the own dataset. `rows` is the content of `AlignmentReady.rows`."""
    joint = np.frombuffer(rows, dtype="<u4").astype(np.uint32)
    training = count_training_rows(len(joint), holdout_fraction)
    return joint[:training], joint[training:]
