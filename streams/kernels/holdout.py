"""Which joint rows train and which are held out: the guest shuffled the joint order, so the tail is a random sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def count_training_rows(joint_rows: int, holdout_fraction: float) -> int:
    """The first so many joint rows train; the last floor(joint_rows * holdout_fraction) are held out."""
    return joint_rows - math.floor(joint_rows * holdout_fraction)


def split_rows(rows: bytes, holdout_fraction: float) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """(training rows, hold-out rows) as indices of the own dataset. `rows` is the content of `AlignmentReady.rows`."""
    joint = np.frombuffer(rows, dtype="<u4").astype(np.uint32)
    training = count_training_rows(len(joint), holdout_fraction)
    return joint[:training], joint[training:]
